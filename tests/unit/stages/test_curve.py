"""Learning curves of made-up rows: honest, nested, cheap, and silent where there is nothing to say."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from headstart.core.method import Budget, Job
from headstart.core.progress import Quiet
from headstart.methods._quick import stand_ins
from headstart.stages import curve
from headstart.tasks.classify import Classify
from headstart.tasks.regress import Regress


def job(rows: int, classes: int = 6, noise: float = 1.0, seed: int = 0, twins: int = 1) -> Job:
    """Return rows whose embedding tells their class through noise, and whose words tell it less well."""
    rng = np.random.default_rng(seed)
    y = np.repeat(rng.integers(0, classes, -(-rows // twins)), twins)[:rows]
    centres = np.random.default_rng(99).standard_normal((classes, 24))
    vectors = centres[y] + noise * rng.standard_normal((rows, 24))
    told = np.where(rng.random(rows) < 0.4, y, rng.integers(0, classes, rows))
    words = [f"word{each} thing" for each in told]
    labels = [f"c{each}" for each in y]
    task = Classify.of("t", labels)
    features = {
        "embedding": (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
        "text": np.array(words, dtype=object),
    }
    return Job(task, task.encode(labels), features, np.arange(rows) // twins, seed, Budget(), 1, Quiet())


def test_every_beginning_of_an_order_has_its_share_of_each_class_and_whole_groups():
    given = job(600, twins=3)
    rows = np.flatnonzero(np.arange(600) % 100 < 60)
    rows = np.flatnonzero(np.isin(given.groups, given.groups[rows]))
    order, ends = curve.nested(given, rows, seed=1)
    assert sorted(order) == sorted(rows)
    for end in ends:
        inside = set(given.groups[order[:end]])
        assert inside.isdisjoint(given.groups[order[end:]])
    shares = np.bincount(given.y[rows], minlength=6) / len(rows)
    half = np.bincount(given.y[order[: len(rows) // 2]], minlength=6) / (len(rows) // 2)
    assert np.abs(half - shares).max() < 0.04


def test_a_measured_curve_falls_and_agrees_with_rows_that_it_never_saw():
    given = job(3000, noise=1.6)
    small = replace(given, y=given.y[:400], features={k: v[:400] for k, v in given.features.items()},
                    groups=given.groups[:400], memo={})  # fmt: skip
    found = curve.measure(small, stand_ins(small)["probe"])
    assert len(found.sizes) >= 4
    assert found.sizes[-1] == pytest.approx(320, abs=10)
    assert found.right.shape == (len(found.sizes), 400)
    assert found.errors[0] > found.errors[-1] + 0.03
    whole = stand_ins(given)["probe"]
    others = np.arange(400, 3000)
    truth = 1 - given.task.correct(whole.scores(given, np.arange(320), others), given.y[others]).mean()
    assert found.errors[-1] == pytest.approx(truth, abs=0.04)


def test_few_rows_of_many_classes_do_not_look_worse_than_they_are():
    """Leave-one-out would: the row's own class is then one row short, and only it."""
    given = job(4000, classes=40, noise=1.5)
    rows = np.concatenate([np.flatnonzero(given.y == each)[:10] for each in range(40)])
    small = replace(given, y=given.y[rows], features={k: v[rows] for k, v in given.features.items()},
                    groups=given.groups[rows], memo={})  # fmt: skip
    found = curve.measure(small, stand_ins(small)["probe"])
    others = np.setdiff1d(np.arange(4000), rows)
    size = int(found.sizes[-1])
    learnt = np.sort(np.concatenate([np.flatnonzero(given.y == each)[: size // 40] for each in range(40)]))
    truth = 1 - given.task.correct(stand_ins(given)["probe"].scores(given, learnt, others), given.y[others]).mean()
    assert found.errors[-1] == pytest.approx(truth, abs=0.05)


def test_draws_are_spread_as_the_rows_are_many():
    widths = []
    for rows in (200, 800):
        given = job(rows, noise=1.6)
        found = curve.measure(given, stand_ins(given)["probe"])
        draws = curve.draws_of(found, given.groups, 0)
        assert draws.shape == (curve.DRAWS, len(found.sizes))
        assert draws.mean(axis=0) == pytest.approx(found.errors, abs=0.02)
        widths.append(draws[:, -1].std())
    assert widths[1] < widths[0]


def test_rows_that_belong_together_make_bands_wider():
    alone, together = job(600, noise=1.6), job(600, noise=1.6, twins=10)
    widths = []
    for given in (alone, together):
        found = curve.measure(given, stand_ins(given)["probe"])
        widths.append(curve.draws_of(replace(found, luck=0 * found.luck), given.groups, 0)[:, -1].std())
    assert widths[1] > 1.2 * widths[0]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (job(30), "30 labels are too few"),
        (job(60, classes=30), "60 labels for 2"),
        (job(300, twins=50), "6 groups"),
        (job(300), ""),
    ],
)
def test_too_few_rows_are_refused_with_a_reason(given, reason):
    assert reason in curve.too_few(given)
    assert bool(reason) == bool(curve.too_few(given))


@pytest.mark.parametrize(("rows", "width"), [(40, 2), (100, 1), (924, 77), (500, 150), (8000, 2), (100_000, 3)])
def test_sizes_grow_by_a_factor_up_to_all_rows(rows, width):
    sizes = curve.sizes_of(rows, width)
    assert sizes[-1] == rows
    assert 3 <= len(sizes) <= curve.MOST
    assert (sizes[1:] / sizes[:-1] > 1.15).all()


def test_numbers_have_curves_too():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 8)).astype(np.float32)
    values = x[:, 0] + 0.5 * x[:, 1] + 0.2 * rng.standard_normal(400)
    task = Regress.of("t", [str(value) for value in values])
    features = {"embedding": x / np.linalg.norm(x, axis=1, keepdims=True), "row_scaled": x}
    given = Job(task, task.encode([str(v) for v in values]), features, np.arange(400), 0, Budget(), 1, Quiet())
    for stand_in in stand_ins(given).values():
        found = curve.measure(given, stand_in)
        assert found.errors[-1] < found.errors[0]
        assert found.errors[-1] < 0.6


def test_two_thousand_rows_take_seconds():
    given = job(2000, noise=1.6)
    started = time.process_time()
    for stand_in in stand_ins(given).values():
        curve.measure(given, stand_in)
    assert time.process_time() - started < 30
