"""Learning from another network's answers: its scores say more than a label does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from headstart.core.course import Lesson
from headstart.training.learner import standard


def taught(
    lessons: Sequence[Lesson], scores: Sequence[np.ndarray], vectors: np.ndarray, temperature: float, weight: float
) -> Callable[[Any, Sequence[Any], Any], Any]:
    """Return a loss of embeddings, scores and rows: how far they are from a teacher's.

    It is the sum of 1 - cosine of the embeddings, and of each target's divergence at a temperature, times its square
    (Hinton and others 2015, arXiv:1503.02531); of numbers, of half the squared error.

    Args:
        lessons: the targets, in order.
        scores: the teacher's scores (n, width) of all rows, by target.
        vectors: its embeddings (n, width) of unit length.
        temperature: by which both scores are divided.
        weight: of all this beside the labels' loss.
    """
    theirs = [torch.from_numpy(_scaled(lesson, each)) for lesson, each in zip(lessons, scores, strict=True)]
    places = torch.from_numpy(vectors)

    def loss(own: Any, found: Sequence[Any], rows: Any) -> Any:
        total = (1 - (own * places[rows].to(own.device)).sum(dim=1)).mean()
        for lesson, mine, every in zip(lessons, found, theirs, strict=True):
            total = total + _apart(lesson, mine, every[rows].to(mine.device), temperature)
        return weight * total

    return loss


def _scaled(lesson: Lesson, scores: np.ndarray) -> np.ndarray:
    mean, scale = standard(lesson)
    return ((scores - mean) / scale).astype(np.float32)


def _apart(lesson: Lesson, mine: Any, theirs: Any, temperature: float) -> Any:
    functional = torch.nn.functional
    if lesson.task.width == 1:
        return 0.5 * functional.mse_loss(mine, theirs)
    if lesson.y.ndim == 2:
        shares = (theirs / temperature).sigmoid()
        return temperature**2 * functional.binary_cross_entropy_with_logits(mine / temperature, shares)
    logs, shares = (mine / temperature).log_softmax(dim=1), (theirs / temperature).softmax(dim=1)
    return temperature**2 * functional.kl_div(logs, shares, reduction="batchmean")
