"""How well vectors find what belongs together: ranks of right answers, and the order of grades."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from headstart.core.metrics import bounded, wilson

DRAWS = 200
CLOSEST = (1, 10)
"""Among how many of the closest a right answer is looked for."""
AT_ONCE = 1024


def ranks(asked: np.ndarray, found: np.ndarray, right: Sequence[set[int]]) -> np.ndarray:
    """Return the place of the first right answer (n,), 1 the best; a wrong one that is as close comes before it.

    Args:
        asked: (n, width) of unit length.
        found: (m, width) of unit length, all answers there are.
        right: for each that is asked, numbers of its right answers.
    """
    places = np.zeros(len(asked), np.int64)
    for start in range(0, len(asked), AT_ONCE):
        likeness = asked[start : start + AT_ONCE] @ found.T
        for row, each in enumerate(likeness):
            own = list(right[start + row])
            before = each >= each[own].max()
            places[start + row] = 1 + before.sum() - before[own].sum()
    return places


def retrieval(places: np.ndarray, answers: int, seed: int) -> dict[str, Any]:
    """Return `mrr`, `recall_1` and `recall_10` of places (n,) with their intervals, and how many answers there were.

    `_drawn` (draws,) is what the interval of `mrr` is made of: for as many rows and the same seed, of the same rows.
    """
    reciprocal = 1 / places
    drawn = _draws(len(places), seed)
    values = reciprocal[drawn].mean(axis=1)
    judged = {"mrr": float(reciprocal.mean()), "mrr_ci": bounded(values), "_drawn": values.tolist()}
    for most in CLOSEST:
        hits = float((places <= most).sum())
        judged |= {f"recall_{most}": hits / len(places), f"recall_{most}_ci": wilson(hits, len(places))}
    return judged | {"answers": answers}


def order(likeness: np.ndarray, grades: np.ndarray, seed: int) -> dict[str, Any]:
    """Return Spearman's rank correlation of cosines (n,) and grades (n,), None where all grades are alike."""
    whole = _spearman(likeness, grades)
    if whole is None:
        return {"spearman": None, "spearman_ci": None}
    # Rows drawn anew may all have one grade: then nothing is in order.
    values = np.array([_spearman(likeness[rows], grades[rows]) or 0.0 for rows in _draws(len(grades), seed)])
    return {"spearman": whole, "spearman_ci": bounded(values), "_drawn": values.tolist()}


def _draws(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, rows, size=(DRAWS, rows))


def _spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    one, other = (each - each.mean() for each in (rankdata(first), rankdata(second)))
    if not other.any():
        return None
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum() / scale) if scale else 0.0
