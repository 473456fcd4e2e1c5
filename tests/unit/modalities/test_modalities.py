import numpy as np

from headstart.modalities.row import Row
from headstart.modalities.text import LONGEST, Text


def test_a_row_of_numbers_categories_and_dates():
    table = {
        "n": ["1", "3", "x", None],
        "c": ["a", "b", "a", ""],
        "d": ["2026-03-01", "1.2.2026", "2026-03-01T05:00", "?"],
    }
    row = Row.fit(table, ["n", "c", "d"], {"n": "number", "c": "category", "d": "date"})
    made = row.prepare(table)
    assert made["row"].shape == (4, 6)
    assert np.array_equal(made["row"][:, 0], [1, 3, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(made["row"][:, 1], [0, 1, 0, np.nan], equal_nan=True)
    assert made["row"][:, 3][:3].tolist() == [3, 2, 3]
    assert made["row"][2, 5] == 5
    assert not np.isnan(made["row_scaled"]).any()
    assert made["row_kind"][0].tolist() == [False, True, False, False, False, False]


def test_categories_that_training_never_saw_are_missing():
    row = Row.fit({"c": ["a", "b"]}, ["c"], {"c": "category"})
    made = row.prepare({"c": ["new", "b"]})
    assert np.isnan(made["row"][0, 0])
    assert made["row_scaled"].tolist() == [[0, 0], [0, 1]]


def test_texts_are_joined_cleaned_and_bounded():
    text = Text(["s", "b"])
    made = text.prepare({"s": ["Hi", None, "\ud800x"], "b": [" there ", "only", "y" * 10**6]})["text"]
    assert made[0] == "Hi\nthere"
    assert made[1] == "only"
    assert made[2].startswith("?x")
    assert len(made[2]) == LONGEST
