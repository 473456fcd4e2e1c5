"""`POST /feedback`: labels find their predictions, once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core.errors import RequestError
from headstart.core.ledger import Label, Prediction
from headstart.ledgers import open_ledger
from headstart.server.protection.protected import keeping
from headstart.server.protocols._labels import Desk
from headstart.server.protocols._labels import given as parsed
from headstart.testing.toys import toy_runtime


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return str(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")


@pytest.fixture(scope="module")
def client(place, serving):
    with (
        keeping(lambda: open_ledger(place), b"s" * 32) as journal,
        serving(toy_runtime(("body",)), journal=journal) as client,
    ):
        yield client


@pytest.fixture
def asked(client):
    """Return the id of a request of three rows."""
    return client.post("/predict", json={"rows": ["red", "blue", "green"]}).headers["x-request-id"]


def labels(place: str, number: str) -> list[Label]:
    with open_ledger(place) as ledger:
        ids = [each.id for each in ledger.read(Prediction, where={"request_id": number})]
        return [each for each in ledger.read(Label) if each.prediction_id in ids]


def test_a_label_finds_its_prediction_at_once(client, place, asked):
    told = client.post("/feedback", json={"request_id": asked, "row": 1, "label": "blue", "annotator": "ada"})
    assert told.status_code == 200
    assert told.json()["status"] == "kept"
    (label,) = labels(place, asked)
    assert (label.label, label.annotator, label.source, label.supersedes) == ("blue", "ada", "outcome", None)
    with open_ledger(place) as ledger:
        (prediction,) = ledger.read(Prediction, where={"id": label.prediction_id})
    assert (prediction.row, prediction.pred) == (1, "blue")
    assert told.json()["prediction_id"] == prediction.id


def test_the_same_label_twice_counts_once(client, place, asked):
    body = {"request_id": asked, "label": "red"}
    told = [client.post("/feedback", json=body).json()["status"] for _ in range(3)]
    assert told == ["kept", "repeated", "repeated"]
    again = client.post("/feedback", json={"feedback": [body, body]}).json()["results"]
    assert [each["status"] for each in again] == ["repeated", "repeated"]
    assert len(labels(place, asked)) == 1


def test_another_label_corrects_the_first(client, place, asked):
    for label, status in (("red", "kept"), ("blue", "corrected"), ("red", "corrected")):
        assert client.post("/feedback", json={"request_id": asked, "label": label}).json()["status"] == status
    first, second, third = labels(place, asked)
    assert (first.label, second.label, third.label) == ("red", "blue", "red")
    assert (second.supersedes, third.supersedes) == (first.id, second.id)


def test_others_may_see_it_otherwise(client, place, asked):
    for each in ({"annotator": "ada"}, {"annotator": "bo"}, {"source": "complaint"}):
        told = client.post("/feedback", json={"request_id": asked, "label": "red", **each})
        assert told.json()["status"] == "kept"
    assert len(labels(place, asked)) == 3


def test_many_at_once(client, place, asked):
    items = [{"request_id": asked, "row": row, "label": "red"} for row in (0, 1, 2, 3)]
    told = client.post("/feedback", json={"feedback": items})
    assert told.status_code == 200
    assert [each["status"] for each in told.json()["results"]] == ["kept", "kept", "kept", "unknown"]
    assert len(labels(place, asked)) == 3
    assert client.post("/feedback", json={"feedback": []}).json() == {"results": []}


def test_what_is_not_known_is_told(client, asked):
    told = client.post("/feedback", json={"request_id": "never-asked", "label": "red"})
    assert told.status_code == 404
    assert "never-asked" in told.json()["error"]["message"]
    assert client.post("/feedback", json={"prediction_id": asked, "label": "red"}).status_code == 404


def test_a_prediction_may_be_named_by_its_own_id(client, place, asked):
    found = client.post("/feedback", json={"request_id": asked, "label": "red"}).json()["prediction_id"]
    told = client.post("/feedback", json={"prediction_id": found, "label": "red"})
    assert told.json() == {"status": "repeated", "prediction_id": found}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ([], "The feedback is a list"),
        ("red", "The feedback is a text"),
        ({"label": "red"}, "must name one prediction"),
        ({"label": "red", "request_id": "a", "prediction_id": "b"}, "must name one prediction"),
        ({"request_id": "a"}, "has no 'label'"),
        ({"request_id": "a", "lable": "red"}, "Did you mean 'label'"),
        ({"request_id": "a", "label": "x", "row": -1}, "'row' is a number"),
        ({"request_id": "a", "label": "x", "row": "0"}, "'row' is a text"),
        ({"request_id": "a", "label": "x", "source": "guess"}, "Sources: 'outcome'"),
        ({"request_id": 7, "label": "x"}, "'request_id' is a number"),
        ({"request_id": "a" * 500, "label": "x"}, "at most 160"),
        ({"request_id": "a", "label": "x", "minutes": -1}, "'minutes' is a number"),
        ({"feedback": {}}, "'feedback' is an object"),
        ({"feedback": [], "more": 1}, "something beside"),
        ({"feedback": [{"request_id": "a", "label": "x"}, 7]}, "Item 2 is a number"),
    ],
)
def test_what_cannot_be_feedback(client, body, told):
    refused = client.post("/feedback", json=body)
    assert refused.status_code == 422
    assert told in " ".join(refused.json()["error"].values())


def test_nothing_is_kept_where_one_is_wrong(client, place, asked):
    items = [{"request_id": asked, "label": "red"}, {"request_id": asked, "label": {"a": 1}}]
    assert client.post("/feedback", json={"feedback": items}).status_code == 422
    items = [{"request_id": asked, "label": "red"}, {"request_id": asked, "target": "lable", "label": "x"}]
    refused = client.post("/feedback", json={"feedback": items})
    assert refused.json()["error"]["hint"] == "Did you mean 'label'?"
    assert labels(place, asked) == []


def test_too_many(client):
    items = [{"request_id": "a", "label": "red"}] * 1001
    assert client.post("/feedback", json={"feedback": items}).status_code == 413


def test_a_server_without_a_ledger_says_so(serving):
    with serving(toy_runtime(("body",))) as client:
        told = client.post("/feedback", json={"request_id": "a", "label": "x"})
        assert told.status_code == 404
        assert "--ledger" in told.json()["error"]["hint"]


class Schema:
    """A model whose answers are of these kinds."""

    def answer_schema(self):
        return {
            "price": {"type": "number"},
            "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
            "label": {"type": "string", "enum": ["red", "blue"]},
        }


@pytest.fixture
def desk(tmp_path):
    with open_ledger(str(tmp_path / "l.sqlite")) as ledger:
        ledger.append(
            [Prediction(name, 1.0, "r", 0, "", "m", "1", target=name) for name in ("price", "tags", "label")]
            + [Prediction("shadow", 2.0, "r", 0, "", "m", "2", variant="shadow", target="label")]
            + [Prediction("foreign", 2.0, "f", 0, "", "n", "1", target="label")]
        )
        yield Desk(ledger, {("m", "1"): Schema()}, ("m",))


@pytest.mark.parametrize(
    ("target", "label", "told"),
    [
        ("price", 2, {"status": "kept", "prediction_id": "price"}),
        ("price", "2.5", {"status": "kept", "prediction_id": "price"}),
        ("tags", ["b", "a", "a"], {"status": "kept", "prediction_id": "tags"}),
        ("tags", "a", {"status": "kept", "prediction_id": "tags"}),
        ("tags", ["a", "new"], {"status": "kept", "prediction_id": "tags", "new_label": True}),
        ("label", "blue", {"status": "kept", "prediction_id": "label"}),
        ("label", "mauve", {"status": "kept", "prediction_id": "label", "new_label": True}),
        ("label", 7, {"status": "kept", "prediction_id": "label", "new_label": True}),
    ],
)
def test_labels_are_of_the_targets_kind(desk, target, label, told):
    assert desk.take([parsed({"request_id": "r", "target": target, "label": label})]) == [told]


@pytest.mark.parametrize(
    ("target", "label"),
    [("price", "dear"), ("price", True), ("price", [1]), ("price", 1e999), ("tags", [1]), ("label", " "), ("", "red")],
)
def test_labels_of_another_kind_are_refused(desk, target, label):
    with pytest.raises(RequestError):
        desk.take([parsed({"request_id": "r", "target": target, "label": label})])


def test_a_key_for_one_model_says_nothing_of_another(desk):
    assert desk.take([parsed({"request_id": "f", "label": "red"})]) == [{"status": "unknown"}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["request_id", "prediction_id", "row", "target", "label", "source", "minutes", "observed", "x"])


@settings(deadline=None)
@given(body=JSON | st.dictionaries(NAMES, JSON | st.sampled_from(["outcome", "r"]), max_size=6))
def test_whatever_is_sent_is_feedback_or_a_refusal(body):
    try:
        item = parsed(body)
    except RequestError as error:
        assert error.problem
        assert error.status == 422
    else:
        assert item.label is not None
