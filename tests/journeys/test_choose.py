"""The race between pretrained models, from the shell: who wins, what limits leave out, and what cannot be tried."""

from __future__ import annotations

import pytest

from headstart.testing.networks import write_bert

ENCODER = "builtin:all-MiniLM-L6-v2"
ABOUT = ("--target", "department", "--input", "subject,body")


@pytest.fixture(scope="module")
def random_bert(tmp_path_factory):
    """Return a network that was never trained."""
    return f"local:{write_bert(tmp_path_factory.mktemp('network') / 'bert')}"


def by_name(told):
    return {each["reference"]: each for each in told.json["race"]}


def test_a_trained_network_wins_over_a_random_one(headstart, table, random_bert):
    told = headstart("choose", table, *ABOUT, "--candidates", f"{random_bert},{ENCODER}", "--json")
    assert told.code == 0, told.err
    found = by_name(told)
    assert told.json["chosen"] == ENCODER
    assert [name for name, each in found.items() if each["chosen"]] == [ENCODER]
    assert set(found) == {"scratch", random_bert, ENCODER}
    assert found[ENCODER]["score"] > found[random_bert]["score"]
    assert found[ENCODER]["neighbours"] > found[random_bert]["neighbours"]
    for each in found.values():
        low, high = each["interval"]
        assert low <= each["score"] <= high
    assert found[ENCODER]["milliseconds"] > 0
    assert told.json["rows"] == 240


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        (("--max-latency", "0.0001"), "slower than 0.0001 ms a row"),
        (("--max-size", "1M"), "larger than 1 MB"),
        (("--license", "cc-by-nc"), "its licence is Apache-2.0"),
    ],
)
def test_limits_leave_out_and_say_why(headstart, table, limit, why):
    told = headstart("choose", table, *ABOUT, "--candidates", ENCODER, *limit, "--json")
    assert told.code == 0, told.err
    assert told.json["chosen"] == "scratch"
    assert by_name(told)[ENCODER]["note"] == why
    assert told.json["sentence"] == (
        f"No pretrained model keeps to the limits ({ENCODER}: {why}): allow more, or use --method scratch."
    )


def test_a_permissive_licence_is_enough(headstart, table):
    told = headstart("choose", table, *ABOUT, "--candidates", ENCODER, "--license", "permissive")
    assert told.code == 0, told.err
    assert f"{ENCODER} * " in told.out
    assert "Apache-2.0" in told.out


def test_what_cannot_be_tried_is_named(headstart, table):
    told = headstart("choose", table, *ABOUT, "--candidates", "local:nowhere/at/all")
    assert told.code != 0
    assert "nowhere/at/all" in told.err
    both = headstart("choose", table, *ABOUT, "--candidates", f"local:nowhere/at/all,{ENCODER}", "--json")
    assert both.code == 0, both.err
    assert "nowhere" in by_name(both)["local:nowhere/at/all"]["note"]
    assert both.json["chosen"] == ENCODER
