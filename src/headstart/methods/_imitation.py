"""Imitation: a smaller network learns to give the vectors of the whole one, on texts whose labels are not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from headstart.core.course import Course, Tuned
from headstart.core.registry import require
from headstart.methods import _tuning
from headstart.methods.finetune import trained

PLAN: Mapping[str, Any] = {"epochs": 8, "batch": 32, "rate": 2e-4, "decay": 1.0, "patience": 2}


def imitated(course: Course, vectors: np.ndarray) -> Tuned:
    """Train a course's network until its embeddings lie where another network's do, and write it.

    The loss is 1 - cosine, without dropout; the epoch is chosen by the mean cosine on the held rows. Labels are not
    read, so heads that are fitted behind it can still be judged on the training rows by cross-validation.

    Args:
        course: of the smaller network; its lessons are not read, and its options are settings of the plan.
        vectors: (n, width) of unit length, the whole network's, of all rows.

    Raises:
        ResourceError: the budget has no room for one epoch.
        MissingExtra: PyTorch is not installed.
    """
    torch = require("torch", "finetune")
    from headstart.training.plan import Plan
    from headstart.training.soft import taught

    session = _tuning.opened(course)
    built = session.trainable()
    for part in built.module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    alone = replace(course, lessons={}, judge=lambda _: _likeness(course, learner, vectors))
    blank = _tuning.Start(np.zeros(1, np.float32), np.ones(1, np.float32), [])
    learner = _tuning.supervised(alone, built, blank, taught([], [], vectors, 1.0, 1.0))
    return trained(alone, learner, session, Plan().given(PLAN).given(course.options), "imitation")


def _likeness(course: Course, learner: Any, vectors: np.ndarray) -> float:
    """Return the mean cosine of a learner's embeddings of the held rows and those that it is to give."""
    return float((_tuning.embeddings(course, learner, course.held) * vectors[course.held]).sum(axis=1).mean())
