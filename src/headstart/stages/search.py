"""Search the settings of a method by optuna, on the held-out rows and within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from headstart.core.course import Course, Tuned
from headstart.core.errors import ResourceError
from headstart.core.method import Candidate, NetworkMethod
from headstart.core.registry import require

SPACES: Mapping[str, Callable[[Any], Any]] = {
    "rate": lambda trial: trial.suggest_float("rate", 2e-5, 2e-3, log=True),
    "decay": lambda trial: trial.suggest_float("decay", 0.7, 1.0),
    "weight_decay": lambda trial: trial.suggest_float("weight_decay", 1e-3, 0.1, log=True),
    "batch": lambda trial: trial.suggest_categorical("batch", [16, 32, 64]),
    "average": lambda trial: trial.suggest_categorical("average", [0.0, 0.99]),
}
"""What is searched; a setting that the user gave stays as it is."""


@dataclass(frozen=True)
class Found:
    """The best course of a search: its settings, what it gave, and every trial."""

    options: Mapping[str, Any]
    tuned: Tuned
    trials: list[Candidate]


def search(method: NetworkMethod, course: Course, trials: int) -> Found:
    """Take a course several times with other settings, and return the best by the held-out rows.

    The first trial has the method's own settings. Trials end early where the budget has no room for one as long as the
    longest so far.

    Args:
        trials: how many, at most.

    Raises:
        ResourceError: the budget has no room for one.
        MissingExtra: optuna is not installed.
    """
    optuna = require("optuna", "search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=course.seed))
    best: Found | None = None
    done: list[Candidate] = []
    longest = 0.0
    for number in range(trials):
        if number and course.budget.left() < longest:
            course.progress.say(f"search: the budget ends after {number} of {trials} trials")
            break
        started = time.monotonic()
        trial = study.ask()
        options = {name: make(trial) for name, make in SPACES.items() if name not in course.options} if number else {}
        try:
            tuned = method.tune(
                replace(course, options={**course.options, **options}, folder=course.folder / f"trial{number}")
            )
        except ResourceError:
            if best is None:
                raise
            break
        study.tell(trial, tuned.score)
        longest = max(longest, time.monotonic() - started)
        told = ", ".join(f"{name} {value:.3g}" for name, value in options.items()) or "the method's own settings"
        done.append(Candidate(f"trial {number + 1}: {told}", tuned.score, time.monotonic() - started))
        course.progress.say(f"search, trial {number + 1} of {trials}: {tuned.score:.4f} with {told}")
        if best is None or tuned.score > best.tuned.score:
            best = Found(options, tuned, done)
    assert best is not None
    return replace(best, trials=[replace(each, chosen=each.score == best.tuned.score) for each in done])
