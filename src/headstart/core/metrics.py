"""Measures with 95 % intervals, in numpy: what reports and thresholds are made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Z95 = 1.959963984540054
"""The standard normal's 97.5 % point."""


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return row-wise softmax of (n, k) scores in float64."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    return weights / weights.sum(axis=1, keepdims=True)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """Return the logistic function of scores in float64, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * scores.astype(np.float64)))


def wilson(hits: float, rows: int) -> list[float]:
    """Return the Wilson score interval (Wilson, 1927) of a share at 95 %; [0, 1] where there are no rows.

    >>> [round(bound, 3) for bound in wilson(95, 100)]
    [0.888, 0.978]
    """
    if rows == 0:
        return [0.0, 1.0]
    share, square = hits / rows, Z95**2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = Z95 / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    # At the ends the interval touches 0 and 1 exactly, which rounding would miss by a hair.
    return [max(0.0, middle - half) if hits else 0.0, min(1.0, middle + half) if hits < rows else 1.0]


def mean_interval(values: np.ndarray) -> list[float]:
    """Return the normal 95 % interval of a mean; a single value gives itself twice."""
    mean = float(values.mean())
    half = Z95 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return [mean - half, mean + half]


def bounded(statistics: np.ndarray) -> list[float]:
    """Return the 2.5 % and 97.5 % points of bootstrap statistics."""
    low, high = np.quantile(statistics, [0.025, 0.975])
    return [float(low), float(high)]


def confusion(truth: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    """Return counts (classes, classes): rows are truths, columns are answers."""
    return np.bincount(truth * classes + answer, minlength=classes * classes).reshape(classes, classes)


def macro(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return macro precision, recall and F1 of confusion counts (..., k, k) over the classes that have rows.

    A class that is never answered has precision 0, as scikit-learn has it with `zero_division=0`.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    truths, answers = counts.sum(axis=-1), counts.sum(axis=-2)
    precision = right / np.maximum(answers, 1)
    recall = right / np.maximum(truths, 1)
    f1 = 2 * right / np.maximum(truths + answers, 1)
    present = truths > 0
    weight = present / np.maximum(present.sum(axis=-1, keepdims=True), 1)
    values = {"precision": precision, "recall": recall, "f1": f1}
    return {name: (value * weight).sum(axis=-1) for name, value in values.items()}


def macro_intervals(counts: np.ndarray, seed: int = 0, draws: int = 200) -> dict[str, list[float]]:
    """Return bootstrap intervals of `macro`, by drawing whole confusion tables with the same number of rows."""
    flat = counts.ravel()
    filled = np.flatnonzero(flat)
    rows = int(flat.sum())
    drawn = np.zeros((draws, len(flat)), dtype=np.int64)
    drawn[:, filled] = np.random.default_rng(seed).multinomial(rows, flat[filled] / rows, size=draws)
    tables = drawn.reshape(draws, *counts.shape)
    return {name: bounded(values) for name, values in macro(tables).items()}


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> list[dict[str, float | int]]:
    """Return mean confidence, accuracy and rows for each filled bin of equal width."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = np.bincount(place, minlength=bins)
    table = []
    for each in np.flatnonzero(rows):
        inside = place == each
        table.append(
            {
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(right[inside].mean()),
                "rows": int(rows[each]),
            }
        )
    return table


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error over 15 bins of equal width (Guo et al., 2017)."""
    table = reliability(confidence, right)
    return sum(abs(each["confidence"] - each["accuracy"]) * each["rows"] for each in table) / max(len(right), 1)


def calibration_error_interval(
    confidence: np.ndarray, right: np.ndarray, seed: int = 0, draws: int = 100
) -> list[float]:
    """Return the bootstrap interval of `calibration_error`."""
    rng, rows, bins = np.random.default_rng(seed), len(right), 15
    gap = confidence - right
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    drawn = rng.integers(0, rows, size=(draws, rows))
    errors = [np.abs(np.bincount(place[each], weights=gap[each], minlength=bins)).sum() / rows for each in drawn]
    return bounded(np.array(errors))


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the chance that a value of `inside` is greater than one of `outside`, ties counted half."""
    values = np.concatenate([inside, outside])
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    total = rank[: len(inside)].sum() - len(inside) * (len(inside) + 1) / 2
    return float(total / (len(inside) * len(outside)))


def certified_threshold(
    confidence: np.ndarray, right: np.ndarray, precision: float, risk: float = 0.05
) -> float | None:
    """Return the lowest confidence from which answers are right at least as often as `precision`, or None.

    Learn-then-Test (Angelopoulos et al., 2021) with exact binomial tails: thresholds are tried along five chains that
    start at 5, 25, 45, 65 and 85 % of the rows, each spending a fifth of `risk` and moving to more rows until its
    first failure. The promise fails with a chance of at most `risk` over the draw of these rows.
    """
    from scipy.stats import binom

    rows = len(right)
    if rows == 0:
        return None
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    errors = np.cumsum(~right[order].astype(bool))
    grid = np.linspace(0.05, 1.0, 39)
    lowest = ranked[np.clip(np.ceil(grid * rows).astype(int), 1, rows) - 1]
    accepted = np.searchsorted(-ranked, -lowest, side="right")
    chance = binom.cdf(errors[accepted - 1], accepted, 1 - precision)
    best = 0
    for start in (0.05, 0.25, 0.45, 0.65, 0.85):
        for step in np.flatnonzero(grid >= start - 1e-9):
            if chance[step] > risk / 5:
                break
            best = max(best, int(accepted[step]))
    return float(ranked[best - 1]) if best else None


def automation(
    confidence: np.ndarray, automated: np.ndarray, right: np.ndarray, precision: float, threshold: float | None
) -> dict[str, Any]:
    """Return what a report says of automation: its rate and precision with intervals, the promise, and the curve.

    Args:
        confidence, automated, right: (n,) of each row: how sure, whether no person is needed, whether it is right.
        precision: the share of right answers that was promised.
        threshold: the confidence from which rows are automated.
    """
    count, hits = int(automated.sum()), int(right[automated].sum())
    return {
        "automation_rate": count / len(right),
        "automation_rate_ci": wilson(count, len(right)),
        "automation_precision": hits / count if count else None,
        "automation_precision_ci": wilson(hits, count) if count else None,
        "precision_target": precision,
        "threshold": threshold,
        "automation_curve": automation_curve(confidence, right),
    }


def automation_curve(confidence: np.ndarray, right: np.ndarray, points: int = 20) -> list[dict[str, float]]:
    """Return the precision among the most confident share of rows, for growing shares."""
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum(right[order])
    rows = len(right)
    places = np.unique(np.maximum((np.linspace(1 / points, 1, points) * rows).astype(int), 1))
    return [{"rate": float(place / rows), "precision": float(hits[place - 1] / place)} for place in places]
