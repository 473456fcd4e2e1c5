"""Methods on made-up data: they learn what is there, hold rows out honestly, and keep to their time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart.core.method import Budget, Job
from headstart.core.progress import Quiet
from headstart.core.threads import Beside
from headstart.methods._learn import merit, subsample
from headstart.methods._probe_race import View, _fit_kernel, _fit_landmarks, _fit_logistic
from headstart.methods.probe import Probe
from headstart.methods.scratch import Scratch
from headstart.tasks.classify import Classify
from headstart.testing.checks import check_head, toy_features

COLORS = ["red", "green", "blue"]


def job(
    rows: int, budget: float = 0.0, noise: float = 0.3, without: tuple[str, ...] = ("row", "row_scaled", "row_kind")
) -> Job:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, rows)
    signal = np.eye(8)[y] + noise * rng.standard_normal((rows, 8))
    features = {
        "embedding": (signal / np.linalg.norm(signal, axis=1, keepdims=True)).astype(np.float32),
        "text": np.array([f"a {COLORS[each]} thing {n}" for n, each in enumerate(y)], dtype=object),
    }
    task = Classify.of("t", [COLORS[each] for each in y])
    return Job(
        task, task.encode([COLORS[each] for each in y]), features, np.arange(rows), 0, Budget(budget), 1, Quiet()
    )


@pytest.mark.parametrize(
    "fit",
    [
        lambda given: _fit_kernel(given, View(), 2.0, 0.85, 0.1),
        lambda given: _fit_landmarks(given, View(), 2.0, 0.1),
        lambda given: _fit_logistic(given, View(), 0.03),
        lambda given: Probe().fit(given),
        lambda given: Scratch().fit(given),
    ],
)
def test_each_way_learns_and_holds_out(fit):
    given = job(400)
    fitted = fit(given)
    assert fitted.score(given.task, given.y) > 0.9
    check_head(fitted.head, given.features)


def test_other_looks_of_the_rows_are_learnt_from_and_held_out_with_them():
    given = job(300, noise=50.0)
    del given.features["text"]
    again = [{"embedding": given.features["embedding"]}] * 2
    fitted = Probe().fit(replace(given, more=again))
    assert fitted.held_out.shape == (300, 3)
    # A copy of a row that stood on the other side would give its label away, though labels here mean nothing.
    assert fitted.score(given.task, given.y) < 0.45
    others = [{"embedding": -given.features["embedding"]}]
    assert np.abs(Probe().fit(replace(given, more=others)).held_out - Probe().fit(given).held_out).max() > 1e-3


def test_held_out_scores_of_labels_without_meaning_are_at_chance():
    given = job(300, noise=50.0)
    given.features["text"][:] = "the same words"
    for method in (Probe(), Scratch()):
        assert method.fit(given).score(given.task, given.y) < 0.45


def test_a_spent_budget_skips_what_costs_most():
    fitted = Probe().fit(job(600, budget=1e-9))
    assert not [each for each in fitted.race if "logistic" in each.name]


def test_subsamples_keep_groups_whole():
    given = job(1000)
    given.groups[:] = np.arange(1000) // 4
    rows = subsample(given, 300)
    assert 250 < len(rows) < 400
    assert not set(given.groups[rows]) & set(np.delete(given.groups, rows))


def test_merit_ranks_by_likelihood():
    task = Classify.of("t", ["a", "b"] * 50)
    y = np.tile([0, 1], 50)
    sure = np.eye(2)[y] * 3.0
    half = sure.copy()
    half[::4] = half[::4, ::-1]
    assert merit(task, sure, y) > merit(task, half, y) > merit(task, np.zeros((100, 2)), y)


def test_rows_and_text_together():
    features = toy_features(120)
    task = Classify.of("t", ["red", "green", "blue", "red", "green"] * 24)
    y = task.encode(["red", "green", "blue", "red", "green"] * 24)
    given = Job(task, y, features, np.arange(120), 0, Budget(), 1, Quiet())
    for method in (Probe(), Scratch()):
        fitted = method.fit(given)
        assert fitted.score(task, y) > 0.95
        assert len(fitted.race) > 3


def test_a_text_model_that_was_begun_is_the_same_and_its_errors_arrive():
    given, begun = job(300), replace(job(300), threads=2)
    Scratch().begin(begun)
    probe, scratch = Probe().fit(begun), Scratch().fit(begun)
    assert np.array_equal(Scratch().fit(given).held_out, scratch.held_out)
    assert np.array_equal(Probe().fit(given).held_out, probe.held_out)
    with pytest.raises(ZeroDivisionError):
        Beside(lambda: 1 // 0).result()
