"""Rows to label next: doubtful, unlike each other, and read in constant memory; the toy model knows three colours."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from headstart.core.errors import DataError, UsageError
from headstart.stages.doubt import doubt
from headstart.stages.label_next import _Crowd, _Pool, label_next, spread
from headstart.stages.model import Model
from headstart.tasks.classify import Classify
from headstart.tasks.regress import Regress
from headstart.tasks.tag import Tag
from headstart.testing.toys import toy_runtime

CLEAR = ["all red red red", "so blue blue blue", "very green green green"]
UNSURE = ["red and blue here", "green or blue there", "red green blue"]


@pytest.fixture
def model() -> Model:
    return Model(toy_runtime(), {})


def table(path: Path, texts: list[str], **columns: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", *columns])
        writer.writerows(zip(texts, *columns.values(), strict=True))
    return path


def test_close_calls_come_before_clear_ones_with_a_reason(model, tmp_path):
    source = table(tmp_path / "new.csv", CLEAR * 10 + UNSURE)
    out = tmp_path / "next.csv"
    found = label_next(model, source, count=3, out=out)
    assert set(found["text"][:2]) <= set(UNSURE)
    assert found["label"] == [None] * 3
    assert set(found["label_suggested"]) <= {"red", "green", "blue"}
    assert all((" or " in why and "% of the rows" in why) or "unlike" in why for why in found["why"])
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == found["text"]
    assert [row["label"] for row in rows] == ["", "", ""]


def test_copies_are_asked_once(model, tmp_path):
    source = table(tmp_path / "new.csv", ["red and blue here"] * 20 + ["green or blue there"] + CLEAR)
    found = label_next(model, source, count=2)
    assert sorted(found["text"]) == ["green or blue there", "red and blue here"]


def test_rows_with_a_label_are_left_out_and_other_columns_kept(model, tmp_path):
    source = table(tmp_path / "new.csv", UNSURE, label=["red", "", ""], ticket=["1", "2", "3"])
    found = label_next(model, source, count=10)
    assert sorted(found["ticket"]) == ["2", "3"]
    assert sorted(found["text"]) == sorted(UNSURE[1:])


def test_a_table_without_anything_to_ask_is_told(model, tmp_path):
    source = table(tmp_path / "new.csv", UNSURE, label=["red", "green", "blue"])
    with pytest.raises(DataError, match="no row without a label"):
        label_next(model, source)


def test_its_own_columns_are_not_overwritten(model, tmp_path):
    source = table(tmp_path / "new.csv", UNSURE, why=["a", "b", "c"])
    with pytest.raises(DataError, match="'why'"):
        label_next(model, source)


def test_a_missing_input_column_and_a_count_of_none_are_told(model, tmp_path):
    source = tmp_path / "new.csv"
    source.write_text("body\nred\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'text'"):
        label_next(model, source)
    with pytest.raises(UsageError, match="--count is 0"):
        label_next(model, source, count=0)


def test_the_pool_keeps_the_most_doubtful_and_the_crowd_an_even_sample():
    rng = np.random.default_rng(0)
    pool, crowd = _Pool(most=50), _Crowd(most=100)
    unsure = rng.random(1000)
    points = np.arange(1000, dtype=np.float32)[:, None]
    for start in range(0, 1000, 130):
        some = slice(start, start + 130)
        pool.add({"row": list(range(1000))[some]}, unsure[some], points[some])
        crowd.add(points[some])
    assert sorted(pool.table["row"]) == sorted(np.argsort(-unsure)[:50])
    assert pool.points[:, 0].tolist() == pool.table["row"]
    assert crowd.points.shape == (100, 1)
    assert len(np.unique(crowd.points)) == 100
    assert crowd.points.mean() == pytest.approx(500, abs=100)


def test_each_next_point_is_far_from_those_before():
    angles = np.array([0.0, 0.01, 0.02, 1.5, 3.0])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert set(spread(np.ones(5), points, 3)) >= {3, 4}
    assert spread(np.array([1, 0.9, 0.8, 0.01, 0.01]), points, 2)[0] == 0
    assert sorted(spread(np.ones(5), points, 99)) == [0, 1, 2, 3, 4]


def test_doubt_is_the_lead_of_the_first_for_classes():
    task = Classify("t", ("a", "b", "c"), (0.4, 0.3, 0.3))
    found, words = doubt(task, np.log([[0.98, 0.01, 0.01], [0.45, 0.44, 0.11]]), np.zeros((2, 3)))
    assert found[0] < 0.1 < 0.9 < found[1]
    assert words[1] == "'a' 45% or 'b' 44%"


def test_doubt_is_that_of_the_most_doubtful_mark():
    task = Tag("t", ("x", "y"), (0.5, 0.5), cuts=(0.5, 0.5))
    found, words = doubt(task, np.array([[9.0, 0.1], [9.0, -9.0]]), np.zeros((2, 2)))
    assert found[0] > 0.9 > 0.1 > found[1]
    assert words[0] == "'y' 52%"


def test_doubt_is_disagreement_for_numbers():
    task = Regress("t", 100.0, 10.0)
    found, words = doubt(task, np.array([[0.0], [0.0]]), np.array([[0.0], [2.0]]))
    assert found[0] < 0.1 < 0.8 < found[1]
    assert words[1] == "100, from scratch 120"
