"""Versions of a name, and which of them answers."""

from __future__ import annotations

import pytest

from headstart.core.errors import RequestError, UsageError
from headstart.server.models.fitted import Fitted
from headstart.server.models.shadow import agree
from headstart.server.models.shelf import Shelf, request_id, share_of
from headstart.server.queue.work import Budget
from headstart.testing.toys import toy_runtime


def version(number, name="toy"):
    return Fitted(toy_runtime(), name, str(number), Budget())


@pytest.fixture
def shelf():
    shelf = Shelf()
    shelf.add(version(1))
    return shelf


def found(shelf, requests=2000):
    """Return the versions that answer many requests, with how many of them each answers."""
    counts: dict[str, int] = {}
    for number in range(requests):
        request_id.set(f"request {number}")
        chosen = shelf.find("toy").version
        counts[chosen] = counts.get(chosen, 0) + 1
    return counts


def test_the_only_model_needs_no_name(shelf):
    assert shelf.find().name == "toy"
    shelf.add(version(1, "other"))
    with pytest.raises(RequestError, match="none is named") as caught:
        shelf.find()
    assert caught.value.status == 404
    assert shelf.names() == ["toy", "other"]


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("tyo", "", "no model 'tyo'.*Did you mean 'toy'"),
        ("toy", "7", "no version '7'.*Versions: '1'"),
        ("x" * 999, "", "x…|x{60}'"),
    ],
)
def test_what_is_not_there_is_a_404(shelf, name, number, words):
    with pytest.raises(RequestError, match=words) as caught:
        shelf.find(name, number)
    assert caught.value.status == 404
    assert len(str(caught.value)) < 300


def test_a_new_version_takes_over_and_the_old_one_is_kept_to_go_back_to(shelf):
    assert shelf.add(version(2)) == []
    assert shelf.find().version == "2"
    assert [each.version for each in shelf.add(version(3))] == ["1"]
    assert shelf.rollback("toy")[0].version == "3"
    assert shelf.find().version == "2"
    with pytest.raises(UsageError, match="no version to go back to"):
        shelf.rollback("toy")


def test_a_canary_answers_its_share_and_the_same_requests_each_time(shelf):
    shelf.add(version(2), "canary", 0.2)
    counts = found(shelf)
    assert 300 < counts["2"] < 500
    assert found(shelf) == counts
    request_id.set("x")
    assert len({shelf.find("toy").version for _ in range(20)}) == 1
    assert shelf.find("toy", "2").version == "2"


def test_a_growing_canary_keeps_those_it_had(shelf):
    ids = [str(each) for each in range(500)]
    few, more = ({each for each in ids if share_of(each) < weight} for weight in (0.1, 0.4))
    assert few < more


def test_promote_and_roll_back(shelf):
    shelf.add(version(2), "canary", 0.5)
    assert shelf.promote("toy") == []
    assert found(shelf) == {"2": 2000}
    assert shelf.entry("toy").role("1") == "previous"
    assert [each.version for each in shelf.rollback("toy")] == ["2"]
    assert found(shelf) == {"1": 2000}
    with pytest.raises(UsageError, match="neither a canary nor a shadow"):
        shelf.promote("toy")


def test_rolling_back_a_canary_leaves_the_live_one(shelf):
    shelf.add(version(2), "canary", 0.5)
    assert [each.version for each in shelf.rollback("toy")] == ["2"]
    assert found(shelf) == {"1": 2000}


def test_a_shadow_answers_nobody(shelf):
    shelf.add(version(2), "shadow")
    assert found(shelf) == {"1": 2000}
    shelf.promote("toy")
    assert shelf.find().version == "2"


@pytest.mark.parametrize("role", ["canary", "shadow"])
def test_the_first_version_is_live(role):
    with pytest.raises(UsageError, match="nothing that a"):
        Shelf().add(version(1), role, 0.1)


def test_unload(shelf):
    shelf.add(version(2), "canary", 0.5)
    with pytest.raises(UsageError, match="live"):
        shelf.unload("toy", "1")
    assert [each.version for each in shelf.unload("toy", "2")] == ["2"]
    assert found(shelf) == {"1": 2000}
    shelf.unload("toy")
    with pytest.raises(RequestError, match="No model is served"):
        shelf.find()


@pytest.mark.parametrize(
    ("given", "other", "same"),
    [
        ({"a": "x", "a_confidence": 0.9}, {"a": "x", "a_confidence": 0.1}, True),
        ({"a": "x"}, {"a": "y"}, False),
        ({"a": ["x", "y"]}, {"a": ["x"]}, False),
        ({"price": 10.0}, {"price": 10.05}, True),
        ({"price": 10.0}, {"price": 11.0}, False),
        ({"price": 10.0}, {"price": None}, False),
        ({"a": "x"}, {"b": "y"}, True),
    ],
)
def test_what_counts_as_agreement(given, other, same):
    assert agree(given, other) is same
