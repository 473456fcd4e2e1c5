"""What fit says of the network and of more labels, and which rows to label next, from the shell."""

from __future__ import annotations

import csv

import pytest

from headstart.core.recipe import Recipe


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory, rows):
    """Return a table of further tickets without their labels."""
    path = tmp_path_factory.mktemp("more") / "unlabelled.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "subject", "body"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows[240:300])
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, table):
    """Return a report of a fit whose curve is wanted."""
    from headstart.stages.fit import fit

    out = tmp_path_factory.mktemp("models") / "advised"
    return fit(table, target="department", input=["subject", "body"], out=out, curve="on").report


def test_the_report_tells_both_and_json_can_hold_it(fitted):
    target = fitted["targets"]["department"]
    assert target["mismatch"]["advice"] in ("proceed", "another backbone", "scratch")
    assert target["mismatch"]["number_ci"][0] <= target["mismatch"]["number"] <= target["mismatch"]["number_ci"][1]
    assert target["mismatch"]["neighbours"] > target["mismatch"]["majority"]
    assert 1.0 < target["mismatch"]["text"]["tokens_per_word"] < 3.0
    assert {"curve", "race", "evaluate"} <= set(fitted["timings"])
    curve = target["learning_curve"]
    assert {each["name"] for each in curve["curves"]} == {"probe", "scratch"}
    for each in curve["curves"]:
        labels = [point["labels"] for point in each["points"]]
        assert labels == sorted(labels)
        assert labels[-1] <= fitted["data"]["train_rows"]
        assert all(0 <= point["low"] <= point["score"] <= point["high"] <= 1 for point in each["points"])
    if not curve["refused"]:
        assert target["accuracy"] <= curve["more"]["low"] <= curve["more"]["high"] <= 1
        assert curve["horizon"] > fitted["data"]["train_rows"]


def test_a_curve_is_not_drawn_where_it_is_not_wanted(headstart, table, tmp_path):
    told = headstart(
        "fit", table, "--target", "department", "--input", "subject,body", "--curve", "off",
        "--out", tmp_path / "m", "--json",
    )  # fmt: skip
    assert told.code == 0, told.err
    assert "learning_curve" not in told.json["targets"]["department"]
    assert told.json["recipe"]["curve"] == "off"
    assert Recipe.from_toml(tmp_path / "m" / "recipe.toml").curve == "off"
    assert "department: " in told.err


def test_the_same_rows_and_seed_give_the_same_curve(tmp_path, table):
    from headstart.stages.fit import fit

    made = [fit(table, target="priority", input=["body"], out=tmp_path / each).report for each in ("a", "b")]
    curves = [report["targets"]["priority"]["learning_curve"] for report in made]
    assert [each | {"seconds": 0} for each in curves[:1]] == [each | {"seconds": 0} for each in curves[1:]]


def test_a_curve_of_no_known_kind_is_refused(headstart, table):
    told = headstart("fit", table, "--curve", "steep")
    assert told.code == 2
    assert "steep" in told.err


def test_label_next_writes_rows_ready_to_be_filled_in(headstart, bundle, unlabelled, tmp_path):
    out = tmp_path / "next.csv"
    told = headstart("label-next", bundle, unlabelled, "--count", 7, "-o", out)
    assert told.code == 0, told.err
    with out.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert len({row["id"] for row in found}) == 7
    for row in found:
        assert row["department"] == row["priority"] == ""
        assert row["department_suggested"]
        assert 0 < float(row["department_confidence"]) < 1
        assert "department: " in row["why"]
        assert "of the rows" in row["why"]


def test_label_next_prints_one_json_document(headstart, bundle, unlabelled):
    told = headstart("label-next", bundle, unlabelled, "--count", 3, "--json", "--quiet")
    assert told.code == 0, told.err
    assert len(told.json) == 3
    assert {"id", "body", "department_suggested", "why"} <= set(told.json[0])


def test_label_next_says_what_is_wrong(headstart, bundle, table):
    told = headstart("label-next", bundle, table)
    assert told.code == 3
    assert "no row without a label" in told.err
    assert headstart("label-next", bundle, table, "--count", 0).code == 2
