"""Few rows of each class: embeddings of like answers are drawn together before a linear layer tells them apart."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from headstart.core.course import Course, Estimate, Lesson, Tuned
from headstart.core.method import Candidate, NetworkMethod
from headstart.core.registry import require
from headstart.methods import _tuning
from headstart.methods.finetune import trained

FEW = 64
"""Rows of a class up to which it is tried unasked: with more, fine-tuning alone does as well."""
READ = 20_000
"""Rows that are read in all, unless `epochs` is given. SetFit's default makes 585,000 pairs of 77 · 10 rows."""
EPOCHS = (3, 30)
PLAN: Mapping[str, Any] = {"batch": 64, "rate": 1e-4, "decay": 0.9, "patience": 5}


@final
class Contrastive(NetworkMethod):
    """Supervised contrastive learning (Khosla and others 2020, arXiv:2004.11362) with the linear layer's cross-entropy
    beside it (Gunel and others 2021, arXiv:2011.01403).

    A batch holds several rows of each of its classes, all classes alike often, and every pair in it is learnt from.
    Then the linear layer is fitted anew on the tuned embeddings, where that is better on held rows.
    """

    pretrained = True
    options: Mapping[str, Any] = {"temperature": 0.1, "weight": 1.0, "together": 4}

    def supports(self, course: Course) -> str:
        """Return an empty string, or the reason why there are no pairs to learn from."""
        if not any(_classes(each) for each in course.lessons.values()):
            return "it needs a target with classes or tags"
        if course.vectors is None:
            return "it needs the embeddings of the network as it is, to begin with"
        return "" if len(course.held) and len(course.train) else "it needs rows to learn from and rows to choose by"

    def worthwhile(self, course: Course) -> str:
        """Return an empty string where classes have few rows."""
        strata = _strata(_main(course))[course.train]
        counts = np.unique(strata[strata >= 0], return_counts=True)[1]
        most = float(np.median(counts)) if len(counts) else 0.0
        return "" if most <= FEW else f"it is for few rows of each class, up to about {FEW}, and there are {most:,.0f}"

    def estimate(self, course: Course) -> Estimate:
        """Return what one epoch costs."""
        return _tuning.measured(course, self._learner(course)[0], self._plan(course))

    def tune(self, course: Course) -> Tuned:
        """Train, choose the epoch and the share by the held rows, fit the linear layers anew, and write the network.

        Raises:
            ResourceError: the budget has no room for one epoch.
        """
        plan = self._plan(course)
        learner, session = self._learner(course)
        from headstart.training.pairs import balanced

        deal = balanced(_strata(_main(course)), int(_tuning.number({**self.options, **course.options}, "together", 2)))
        return trained(course, learner, session, plan, "contrastive", finish=refitted, deal=deal)

    def _plan(self, course: Course) -> Any:
        require("torch", "finetune")
        from headstart.training.plan import Plan

        own = {name: each for name, each in course.options.items() if name not in ("log", *self.options)}
        epochs = int(np.clip(READ // max(len(course.train), 1), *EPOCHS))
        return Plan().given({**PLAN, "epochs": epochs}).given(own)

    def _learner(self, course: Course) -> tuple[Any, Any]:
        torch = require("torch", "finetune")
        from headstart.training.pairs import alike, contrast

        given = {**self.options, **course.options}
        temperature, weight = _tuning.number(given, "temperature", 1e-3), _tuning.number(given, "weight", 0.0)
        answers = [
            (torch.from_numpy(each.y.astype(np.int64)), torch.from_numpy(each.known))
            for each in course.lessons.values()
            if _classes(each)
        ]

        def pull(vectors: Any, _scores: Any, rows: Any) -> Any:
            total = vectors.sum() * 0.0
            for y, known in answers:
                total = total + contrast(vectors, alike(y[rows], known[rows]), temperature)
            return weight * total

        session = _tuning.opened(course)
        learner = _tuning.supervised(course, session.trainable(), _tuning.linear_start(course), pull)
        return learner, session


def refitted(course: Course, learner: Any, score: float, **known: Any) -> Tuned:
    """Fit the linear layers anew on the tuned embeddings, keep what is better on held rows, and write all."""
    started = time.perf_counter()
    again = _tuning.refitted(course, learner)
    value = _tuning.held_score(course, again)
    race = list(known.pop("race", ()))
    race.append(Candidate("linear layers fitted anew", value, time.perf_counter() - started, value > score))
    best = again if value > score else learner
    return _tuning.handed_back(course, best, max(score, value), race=race, **known)


def _classes(lesson: Lesson) -> bool:
    return lesson.task.width > 1


def _main(course: Course) -> Lesson:
    """Return the target with classes that has most labels; batches are balanced by it."""
    return max((each for each in course.lessons.values() if _classes(each)), key=lambda each: int(each.known.sum()))


def _strata(lesson: Lesson) -> np.ndarray:
    """Return the class of each row (n,), for tags its rarest one; -1 where it has none."""
    if lesson.y.ndim == 1:
        return np.where(lesson.known, lesson.y, -1).astype(np.int64)
    counts = np.where(lesson.known[:, None], lesson.y, 0).sum(axis=0)
    rarity = np.where(counts > 0, 1.0 / np.maximum(counts, 1), 0.0)
    some = lesson.known & lesson.y.any(axis=1)
    return np.where(some, (lesson.y * rarity).argmax(axis=1), -1).astype(np.int64)
