"""The learning curve on the page and in the terminal: drawn where it was measured, told in words, deaf to nonsense."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.stages.report import terminal
from headstart.stages.report.curve import before_training, learning_curve
from headstart.stages.report.html import page


def points(*scores: float, first: int = 100) -> list[dict[str, float]]:
    return [
        {"labels": first * 2**place, "score": score, "low": score - 0.02, "high": score + 0.02}
        for place, score in enumerate(scores)
    ]


CURVE = {
    "labels": 500,
    "horizon": 3200,
    "sentence": "With 200 more labels: 91.5–93.0 %.",
    "curves": [
        {"pretrained": True, "points": points(0.7, 0.8, 0.85), "forecast": points(0.85, 0.9, 0.92, first=400)},
        {"pretrained": False, "points": points(0.5, 0.65, 0.75), "forecast": points(0.75, 0.8, 0.85, first=400)},
    ],
}
MISMATCH = {"sentence": "department: proceed, <b>at home</b>.", "basis": "The 5 nearest rows alone answer 80.0 %."}
TARGET = {"accuracy": 0.9, "accuracy_ci": [0.88, 0.92], "learning_curve": CURVE, "mismatch": MISMATCH}
REPORT = {"kind": "fit", "targets": {"department": TARGET}}


def test_both_curves_are_drawn_with_points_bands_and_words():
    drawn = learning_curve("target-1", TARGET)
    assert drawn.count("<circle") == 6
    assert drawn.count("<polygon") == 2
    assert drawn.count("<polyline") == 4
    assert "with the pretrained model: 100 labels 70.0 %" in drawn
    assert "1,600 labels 92.0 % expected" in drawn
    assert "today" in drawn
    assert "91.5–93.0 %" in drawn


def test_everything_stays_on_the_drawing():
    drawn = learning_curve("target-1", TARGET)
    wide, high = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', drawn).groups())
    numbers = [pair.split(",") for each in re.findall(r'points="([^"]+)"', drawn) for pair in each.split()]
    assert numbers
    assert all(0 <= float(x) <= wide and 0 <= float(y) <= high for x, y in numbers)


def test_a_refused_forecast_leaves_the_measured_curve_and_the_reason():
    curve = {**CURVE, "sentence": "No forecast: the error rose.", "horizon": None}
    curve["curves"] = [{**each, "forecast": []} for each in CURVE["curves"]]
    drawn = learning_curve("target-1", {"accuracy": 0.9, "learning_curve": curve})
    assert "<polygon" not in drawn
    assert drawn.count("<circle") == 6
    assert "No forecast: the error rose." in drawn


@pytest.mark.parametrize("curve", [None, {}, {"curves": []}, {"curves": [{"points": []}]}, {"curves": "x"}, 3])
def test_nothing_is_drawn_of_nothing(curve):
    assert learning_curve("target-1", {"accuracy": 0.9, "learning_curve": curve}) == ""


def test_page_and_terminal_tell_both():
    html = page(REPORT)
    assert "target-1-curve" in html
    assert "&lt;b&gt;at home" in html
    text = terminal(REPORT, 80)
    assert "before training" in text
    assert "With 200 more labels" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert before_training({}) == ""


values = st.one_of(st.none(), st.floats(), st.integers(-5, 10**9), st.text(max_size=3))
record = st.dictionaries(st.sampled_from(["labels", "score", "low", "high"]), values)


@given(
    st.lists(
        st.fixed_dictionaries({"pretrained": values, "points": st.lists(record), "forecast": st.lists(record)}),
        max_size=3,
    ),
    values,
)
@settings(deadline=None, max_examples=150)
def test_whatever_a_report_holds_the_drawing_has_no_nan(curves, today):
    drawn = learning_curve("t", {"accuracy": 0.9, "learning_curve": {"labels": today, "curves": curves}})
    assert "nan" not in drawn.lower()
    assert 'x="inf' not in drawn
