"""What a learning curve is said to promise: bands that begin at the report's figure, crossings, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.core.method import Budget, Job
from headstart.core.progress import Quiet
from headstart.stages.curve import Measured
from headstart.stages.outlook import Line, compare, line_of, outlook, refusal
from headstart.tasks.classify import Classify

ROWS = 400
SIZES = np.array([20.0, 40.0, 80.0, 160.0, 320.0])


def job(classes: int = 4) -> Job:
    labels = [str(each % classes) for each in range(ROWS)]
    task = Classify.of("t", labels)
    return Job(task, task.encode(labels), {}, np.arange(ROWS), 0, Budget(), 1, Quiet())


def line(errors: np.ndarray, classes: int = 4, noise: float = 0.0) -> Line:
    """Return the line of a curve on which these errors were measured."""
    rng = np.random.default_rng(0)
    # A row that is wrong at a size is wrong at smaller ones, as it mostly is.
    hardness = rng.permutation(ROWS) / ROWS
    right = (hardness[None, :] >= np.asarray(errors)[:, None]).astype(float)
    return line_of(job(classes), Measured(SIZES, right, np.full(len(SIZES), noise)))


def power(start: float, exponent: float, floor: float = 0.0) -> np.ndarray:
    return floor + start * (SIZES / SIZES[0]) ** -exponent


def test_the_sentence_begins_at_the_reports_figure_and_promises_more():
    found = outlook(job(), {"probe": line(power(0.6, 0.5))}, 400, 0.9)
    assert found["refused"] == ""
    assert found["horizon"] == 3200
    assert found["more"]["added"] == 200
    assert 0.9 < found["more"]["low"] <= found["more"]["score"] <= found["more"]["high"] < 1
    assert found["at_horizon"]["score"] > found["more"]["score"]
    assert "With 200 more labels: 9" in found["sentence"]
    assert "now 90.0 % with 400" in found["sentence"]
    points, expected = found["curves"][0]["points"], found["curves"][0]["forecast"]
    assert [each["labels"] for each in points] == SIZES.tolist()
    assert expected[0]["score"] == pytest.approx(points[-1]["score"], abs=0.02)
    assert expected[-1]["labels"] == 3200


def test_few_labels_of_a_class_see_less_far():
    found = outlook(job(100), {"probe": line(power(0.6, 0.5), 100)}, 400, 0.9)
    assert found["horizon"] == 1200


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ([0.5, 0.4, 0.3, 0.25, 0.26], "did not fall beyond noise"),
        ([0.5, 0.3, 0.45, 0.25, 0.2], "no family of curves fits"),
        ([0.5, 0.4, 0.3, 0.25, 0.2], ""),
    ],
)
def test_curves_that_do_not_fall_are_refused_with_a_reason(errors, reason):
    made = line(np.array(errors))
    assert reason in refusal(made)
    found = outlook(job(), {"probe": made}, 400, 0.8)
    assert bool(found["refused"]) == bool(reason)
    if reason:
        assert found["sentence"].startswith("No forecast: ")
        assert found["curves"][0]["forecast"] == []
        assert found["curves"][0]["points"]


def test_many_more_labels_than_were_measured_are_refused():
    found = outlook(job(), {"probe": line(power(0.6, 0.5))}, 50_000, 0.9)
    assert "400 rows only" in found["refused"]


def test_the_crossing_is_found_where_from_scratch_catches_up():
    probe, scratch = line(power(0.25, 0.15)), line(power(0.65, 0.4))
    found = compare(probe, scratch, 400, 3200)
    assert found["crossing"] is not None
    assert 400 < found["crossing"] < 3000
    sentence = outlook(job(), {"probe": probe, "scratch": scratch}, 400, 0.85)["sentence"]
    assert f"From about {found['crossing']:,} labels on, the pretrained model no longer pays" in sentence


def test_a_pretrained_model_that_stays_ahead_saves_labels():
    probe, scratch = line(power(0.4, 0.5)), line(power(0.6, 0.5))
    found = compare(probe, scratch, 400, 3200)
    assert found["crossing"] is None
    assert found["ahead"] > 0.01
    assert found["saved"] == pytest.approx(2.25, rel=0.4)


def test_a_pretrained_model_that_never_led_no_longer_pays_already():
    found = outlook(job(), {"probe": line(power(0.5, 0.4)), "scratch": line(power(0.5, 0.4))}, 400, 0.85)
    assert "Already from about 20 labels on" in found["sentence"]
