"""Doubt: how close a call each answer is, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.core.task import Task

LEAST = 0.02
"""Doubt that is left in the surest answer, so that rows of their own kind are not passed over for good."""


def doubt(task: Task, scores: np.ndarray, baseline: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the doubt in each answer, (n,) from nearly 0 to 1, and a few words on it.

    For classes it is one minus the lead of the first over the second, for marks that of the most doubtful one, for
    numbers how far the model and its from-scratch baseline disagree.

    Args:
        scores, baseline: (n, width) of the model and of its baseline.
    """
    chances = task.calibrated(scores)
    labels: Sequence[str] = getattr(task, "labels", ())
    if task.width == 1:
        found, words = _numbers(chances[:, 0], task.calibrated(baseline)[:, 0], np.abs(scores - baseline)[:, 0])
    elif np.allclose(chances.sum(axis=1), 1.0, atol=1e-3):
        found, words = _classes(chances, labels)
    else:
        found, words = _marks(chances, labels)
    return LEAST + (1 - LEAST) * found, words


def _classes(chances: np.ndarray, labels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    order = np.argsort(-chances, axis=1)[:, :2]
    first, second = np.take_along_axis(chances, order, axis=1).T
    words = [
        f"{_name(labels, one)} {p:.0%} or {_name(labels, two)} {q:.0%}"
        for (one, two), p, q in zip(order, first, second, strict=True)
    ]
    return 1 - (first - second), words


def _marks(chances: np.ndarray, labels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    unsure = 1 - np.abs(2 * chances - 1)
    worst = unsure.argmax(axis=1)
    rows = np.arange(len(chances))
    words = [f"{_name(labels, each)} {p:.0%}" for each, p in zip(worst, chances[rows, worst], strict=True)]
    return unsure[rows, worst], words


def _numbers(values: np.ndarray, others: np.ndarray, apart: np.ndarray) -> tuple[np.ndarray, list[str]]:
    words = [f"{value:.4g}, from scratch {other:.4g}" for value, other in zip(values, others, strict=True)]
    return 1 - np.exp(-apart), words


def _name(labels: Sequence[str], place: int) -> str:
    return f"'{labels[place]}'" if place < len(labels) else f"answer {place + 1}"
