"""Learn one target: fit the methods, choose between them, calibrate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import heads, methods
from headstart.core.arrays import take
from headstart.core.errors import UsageError
from headstart.core.head import Head
from headstart.core.method import Budget, Candidate, Fitted, Job
from headstart.core.progress import Progress
from headstart.core.recipe import Recipe
from headstart.core.threads import core_count
from headstart.runtime import Target
from headstart.stages import judge
from headstart.stages.prepare import Prepared


@dataclass(frozen=True)
class Learnt:
    """One target after fitting: what answers, what it is compared to, and how it was chosen.

    Args:
        target: task and heads.
        method: the method whose head answers.
        signal: whether held-out rows are answered better than by the labels' shares.
        race: what was tried.
        rows: the training rows that have a label, as numbers of the data set's rows.
        y: what they are encoded to.
        fitted: what each method gave, with its scores of those rows by heads that did not see them.
        tuned_held: where a tuned network answers, the scores of those of the rows that it was chosen by.
    """

    target: Target
    method: str
    signal: bool
    race: Sequence[Mapping[str, Any]]
    rows: np.ndarray
    y: np.ndarray
    fitted: Mapping[str, Fitted]
    tuned_held: np.ndarray | None = None

    def held_scores(self, held: np.ndarray) -> np.ndarray:
        """Return the scores of the rows in a mask over all rows, by what answers and did not see them."""
        if self.tuned_held is not None:
            return self.tuned_held
        return self.fitted[self.method].held_out[held[self.rows]]


def learn(prepared: Prepared, name: str, recipe: Recipe, budget: Budget, progress: Progress) -> Learnt:
    """Fit one target by every method that is wanted, keep the best, and calibrate it on held-out training rows."""
    rows = prepared.rows(name, test=False)
    job = Job(
        task=prepared.tasks[name],
        y=prepared.encoded(name, rows),
        features=take(prepared.features, rows),
        groups=prepared.groups[rows],
        seed=recipe.seed,
        budget=budget,
        threads=core_count(),
        progress=progress,
        more=[take(each, rows) for each in prepared.more],
    )
    wanted = _wanted(recipe, job)
    for each in wanted:
        methods.head_methods()[each]().begin(job)
    # What was begun is waited for last.
    made = {each: _fit_one(each, job, recipe) for each in reversed(wanted)}
    fitted = {each: made[each] for each in wanted}
    chosen = _choose(fitted, job, recipe)
    best, baseline = fitted[chosen], fitted.get("scratch")
    task = job.task.calibrate(best.held_out, job.y, recipe.precision_target)
    signal = judge.has_signal(task, best.held_out, job.y)
    head: Head = best.head
    if not signal:
        task, head = task.without_signal(), heads.registry.get("constant").of({}, {"values": task.majority()})
    scores = ", ".join(f"{each} {fitted[each].score(job.task, job.y):.3f}" for each in fitted)
    progress.say(f"{name}: {chosen} ({scores} on held-out training rows)" + ("" if signal else "; no signal"))
    race = [row for each in fitted.values() for row in each.table()]
    return Learnt(Target(task, head, baseline.head if baseline else None), chosen, signal, race, rows, job.y, fitted)


def _wanted(recipe: Recipe, job: Job) -> list[str]:
    """Return the methods to fit: the from-scratch baseline always, and what the recipe asks for."""
    if recipe.method in methods.head_methods():
        reason = methods.head_methods()[recipe.method]().supports(job.task, list(job.features))
        if reason:
            raise UsageError(f"The method '{recipe.method}' cannot be used: {reason}.")
        return list(dict.fromkeys(["scratch", recipe.method]))
    known = methods.head_methods()
    usable = [name for name, each in known.items() if not each().supports(job.task, list(job.features))]
    return sorted(usable, key=lambda each: methods.head_methods()[each].pretrained)


def _fit_one(name: str, job: Job, recipe: Recipe) -> Fitted:
    started = time.perf_counter()
    fitted = methods.head_methods()[name]().fit(job)
    score = fitted.score(job.task, job.y)
    entry = Candidate(name, score, time.perf_counter() - started)
    return replace(fitted, race=[entry, *(replace(each, name=f"{name}: {each.name}") for each in fitted.race)])


def _choose(fitted: Mapping[str, Fitted], job: Job, recipe: Recipe) -> str:
    if recipe.method in fitted:
        return recipe.method
    # The cheaper method comes first and keeps its place unless another is better on rows neither has seen.
    return max(fitted, key=lambda each: fitted[each].score(job.task, job.y))
