"""Smaller forms on the page and in a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.report import compressed
from headstart.stages.report.html import page


def trial(name, right=0.9, rate=100.0, **others):
    return {
        "name": name,
        "why": "kept",
        "accuracy": {"label": {"value": right, "ci": [right - 0.02, right + 0.02], "metric": "accuracy"}},
        "drop": {"label": {"points": 0.12, "bound": 0.43}},
        "agreement": 0.985,
        "speed": {"p50_ms": 5.0, "p95_ms": 7.0, "rows_per_s": rate},
        "size": 23_000_000,
        "memory": 190_000_000,
        "kept": True,
        "chosen": False,
        **others,
    }


FOUND = {
    "verdict": "int8: 1.80 times the rows a second.",
    "out": "models/small",
    "trials": [trial("as it is", drop={}, why=""), trial("int8", 0.899, 180.0, chosen=True), trial("<b>", 0.5, 300.0)],
}


def test_the_terminal_shows_every_form_with_what_became_of_it():
    shown = "\n".join(compressed.lines(FOUND))
    assert "✓ int8" in shown and "+0.12 (< 0.43)" in shown and "98.5 %" in shown and "23.0 MB" in shown
    assert "int8: kept" in shown
    assert "int8: 1.80 times the rows a second." in shown and "headstart predict models/small" in shown


def test_the_page_has_the_table_and_the_drawing_and_escapes_names():
    shown = page({"kind": "fit", "targets": {}, "compressed": FOUND})
    assert "Smaller forms" in shown and "<b>int8 ✓</b>" in shown and "&lt;b&gt;" in shown
    assert "What does speed cost?" in shown and "int8: 89.9 % at 180 rows a second" in shown


def test_nothing_is_shown_of_nothing():
    assert compressed.section({}) == ""
    assert compressed.plot([trial("alone")]) == ""


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 1e9)), min_size=2, max_size=6))
def test_whatever_was_measured_stays_on_the_drawing(measured):
    drawn = compressed.plot([trial(f"f{n}", right, rate) for n, (right, rate) in enumerate(measured)])
    assert "nan" not in drawn and "inf" not in drawn


@pytest.mark.parametrize("part", ["accuracy", "speed", "drop", "agreement", "size"])
def test_missing_parts_are_not_shown_and_break_nothing(part):
    trials = [trial("as it is"), {name: each for name, each in trial("int8").items() if name != part}]
    assert "int8" in page({"kind": "fit", "targets": {}, "compressed": {"trials": trials}})
