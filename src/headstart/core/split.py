"""Split rows so that every class is spread evenly and no group stands on both sides."""

from __future__ import annotations

import numpy as np


def hold_out(strata: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return a mask (n,) of the rows to hold out: about `share` of each stratum, whole groups only.

    Args:
        strata: (n,) what to spread evenly, such as class numbers.
        groups: (n,) rows of one group stay together.
    """
    held = np.zeros(len(strata), bool)
    seen: dict[int, list[float]] = {}
    for rows, stratum in _shuffled_groups(strata, groups, seed):
        total, out = seen.setdefault(stratum, [0.0, 0.0])
        # A group goes out where that brings the stratum nearer to its share than leaving it in.
        goes = abs(out + len(rows) - share * (total + len(rows))) < abs(out - share * (total + len(rows)))
        seen[stratum] = [total + len(rows), out + len(rows) * goes]
        held[rows] = goes
    return held


def folds(strata: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return a fold number (n,) in 0..count-1, strata spread evenly, whole groups only."""
    fold = np.zeros(len(strata), np.int64)
    filled: dict[int, np.ndarray] = {}
    total = np.zeros(count)
    for rows, stratum in _shuffled_groups(strata, groups, seed):
        own = filled.setdefault(stratum, np.zeros(count))
        place = int(np.lexsort((total, own))[0])
        own[place] += len(rows)
        total[place] += len(rows)
        fold[rows] = place
    return fold


def _shuffled_groups(strata: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, int]]:
    """Return (rows, stratum) of each group, largest first so that small ones even out, otherwise in random order."""
    _, number = np.unique(groups, return_inverse=True)
    order = np.argsort(number, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(number))[:-1])
    shuffle = np.random.default_rng(seed).permutation(len(parts))
    sizes = np.array([len(parts[each]) for each in shuffle])
    ranked = shuffle[np.argsort(-sizes, kind="stable")]
    return [(parts[each], int(np.bincount(strata[parts[each]]).argmax())) for each in ranked]


def strata_of(cells: list[str], least: int = 2) -> np.ndarray:
    """Return stratum numbers (n,) of labels; labels of fewer than `least` rows share one."""
    labels, number, count = np.unique(np.array(cells, dtype=str), return_inverse=True, return_counts=True)
    return np.where(count[number] >= least, number, len(labels)).astype(np.int64)
