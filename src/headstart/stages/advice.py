"""Advice beside the figures: is the network at home with these rows, and what would more labels bring."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from threadpoolctl import threadpool_limits

from headstart.core.arrays import take
from headstart.core.method import Budget, Job
from headstart.core.progress import Progress, Quiet
from headstart.core.recipe import Recipe
from headstart.methods._quick import sampled, stand_ins
from headstart.stages import mismatch
from headstart.stages.curve import Measured, measure, too_few
from headstart.stages.outlook import line_of, outlook
from headstart.stages.prepare import Prepared

ROWS = {"auto": 1_500, "on": 4_000}
"""Rows that a curve is measured on at most."""
SHARE = 0.1
"""Share of what is left of a budget that curves may take."""
SECONDS = 4.0
"""What 1,000 rows of two methods take at most on a slow core; time grows with the square of the rows."""


@dataclass(frozen=True)
class Curves:
    """What was measured of one target: the rows it was measured on, each method's curve, or why there is none."""

    job: Job
    today: int
    measured: Mapping[str, Measured]
    refused: str
    seconds: float


def before(prepared: Prepared, recipe: Recipe, progress: Progress) -> dict[str, dict[str, Any]]:
    """Return what can be said of each target before training, and say it."""
    found: dict[str, dict[str, Any]] = {}
    text = mismatch.texts(prepared) if "embedding" in prepared.features else {}
    for name in prepared.tasks:
        # Many small products: on a busy machine two threads wait for each other longer than one takes.
        with threadpool_limits(1):
            found[name] = mismatch.look(prepared, name, recipe.seed, text)
        if found[name]:
            progress.say(found[name]["sentence"])
    return found


def curves(prepared: Prepared, recipe: Recipe, budget: Budget) -> dict[str, Curves]:
    """Return the learning curves of all targets on frozen features, on as many rows as recipe and budget allow."""
    if recipe.curve == "off":
        return {}
    allowed = SHARE * max(budget.left(), 0.0) / len(prepared.tasks)
    rows = int(min(ROWS[recipe.curve], 1_000 * (allowed / SECONDS) ** 0.5))
    with threadpool_limits(1):
        return {name: _curves(prepared, name, rows, recipe.seed) for name in prepared.tasks}


def _curves(prepared: Prepared, name: str, rows: int, seed: int) -> Curves:
    clock = time.monotonic()
    own = prepared.rows(name, test=False)
    features, y = take(prepared.features, own), prepared.encoded(name, own)
    job = Job(prepared.tasks[name], y, features, prepared.groups[own], seed, Budget(), 1, Quiet())
    refused = too_few(job)
    if not refused:
        job = sampled(job, max(rows, 1))
        if too_few(job):
            refused = f"the budget allows {rows:,} rows only, too few for a curve"
    measured = {} if refused else {each: measure(job, stand_in) for each, stand_in in stand_ins(job).items()}
    return Curves(job, len(own), measured, refused, time.monotonic() - clock)


def put(report: dict[str, Any], told: Mapping[str, dict[str, Any]], found: Mapping[str, Curves]) -> None:
    """Put both into each target's part of a report; what more labels bring is told from its own figures on."""
    for name, target in report["targets"].items():
        if told.get(name):
            target["mismatch"] = told[name]
        if name not in found:
            continue
        each = found[name]
        refused = each.refused
        if not refused and target["gain_over_majority_ci"][0] <= 0:
            refused = "the answers are not clearly better than the most common one"
        if refused:
            target["learning_curve"] = {
                "labels": each.today,
                "refused": refused,
                "curves": [],
                "sentence": f"No forecast: {refused}.",
            }
            continue
        lines = {
            method: line_of(each.job, measured, pretrained=method == "probe")
            for method, measured in each.measured.items()
        }
        told_of = outlook(each.job, lines, each.today, float(target[each.job.task.primary]))
        target["learning_curve"] = {**told_of, "seconds": each.seconds}
