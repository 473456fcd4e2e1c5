"""The gate: a smaller model is kept only where it is measurably faster, and shown to answer as well."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np

from headstart.core.dataset import take_rows
from headstart.core.source import Table

ROUNDS = 7
"""Times that all models are timed, one after the other, so that a busy machine hits them alike."""
SINGLES, MANY = 10, 64
"""Single rows, and rows of a batch, of one round."""
FASTER, SLOWER = 1.03, 0.97
"""Ratios of speed that count as faster, and as slower."""
RISK = 0.05
"""Chance that a bound does not hold."""


class Answering(Protocol):
    """What answers rows, and can be timed."""

    def predict(self, table: Table) -> Any:
        """Answer rows."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each single row (rounds, singles), and rows a second of each batch (rounds,)."""

    singles: np.ndarray
    batches: np.ndarray

    def figures(self, first: Timing | None = None) -> dict[str, float]:
        """Return median and 95 % latency in milliseconds, and the median throughput.

        Args:
            first: what this one is compared with. Its figures times the median ratio of the rounds are given then:
                where a machine is slow for a while, ratios say more than seconds.
        """
        if first is not None:
            mine, theirs = self._rounds(), first._rounds()
            return {name: each * float(np.median(mine[name] / theirs[name])) for name, each in first.figures().items()}
        return {name: float(np.median(each)) for name, each in self._rounds().items()}

    def _rounds(self) -> dict[str, np.ndarray]:
        """Return the figures of each round (rounds,)."""
        return {
            "p50_ms": 1000 * np.median(self.singles, axis=1),
            "p95_ms": 1000 * np.quantile(self.singles, 0.95, axis=1),
            "rows_per_s": self.batches,
        }


@dataclass(frozen=True)
class Pace:
    """How much faster one model is than another: ratios of latency and throughput, and whether that is beyond noise."""

    latency: float
    throughput: float
    faster: bool


@dataclass(frozen=True)
class Drop:
    """How many points fewer answers are right, and the bound below which that lies with 95 % confidence."""

    points: float
    bound: float


@dataclass(frozen=True)
class Merit:
    """What counts for one model: higher is better for all of these."""

    accuracy: float
    latency: float
    throughput: float
    size: float = field(default=0.0)

    def over(self, other: Merit) -> bool:
        """Return whether nothing of it is worse than the other's, and something is better."""
        mine, theirs = vars(self).values(), vars(other).values()
        pairs = list(zip(mine, theirs, strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def timed(runtimes: Mapping[str, Answering], table: Table, rounds: int = ROUNDS, many: int = MANY) -> dict[str, Timing]:
    """Time models on the same rows, one after the other in every round.

    Args:
        table: rows to answer; at least one.
        many: rows of a batch.
    """
    rows = len(next(iter(table.values())))
    batch = take_rows(table, np.resize(np.arange(rows), many))
    some = [take_rows(table, [row]) for row in np.linspace(0, rows - 1, min(SINGLES, rows)).astype(int)]
    for runtime in runtimes.values():
        runtime.predict(some[0])
        runtime.predict(batch)
    singles: dict[str, list[list[float]]] = {name: [] for name in runtimes}
    batches: dict[str, list[float]] = {name: [] for name in runtimes}
    for _ in range(rounds):
        for name, runtime in runtimes.items():
            singles[name].append([_seconds(runtime, row) for row in some])
            batches[name].append(many / _seconds(runtime, batch))
    return {name: Timing(np.array(singles[name]), np.array(batches[name])) for name in runtimes}


def _seconds(runtime: Answering, table: Table) -> float:
    started = time.perf_counter()
    runtime.predict(table)
    return time.perf_counter() - started


def pace(before: Timing, after: Timing) -> Pace:
    """Compare two models that were timed together.

    Faster is what gains 3 % of latency or throughput in the median round and something in all rounds but one, and loses
    no more than 3 % of the other.
    """
    latency = np.median(before.singles, axis=1) / np.median(after.singles, axis=1)
    throughput = after.batches / before.batches
    medians = [float(np.median(each)) for each in (latency, throughput)]
    gains = [
        middle >= FASTER and int((each > 1).sum()) >= len(each) - 1
        for middle, each in zip(medians, (latency, throughput), strict=True)
    ]
    return Pace(medians[0], medians[1], any(gains) and min(medians) >= SLOWER)


def drop(before: np.ndarray, after: np.ndarray, share: bool, forms: int = 1) -> Drop:
    """Return how much worse the second of two models answers the same rows.

    Where answers are right or wrong, the bound is made of the Wilson bounds of what was lost and of what was gained
    (Newcombe 1998; Zou and Donner 2008), so that even answers that are all alike leave a doubt, which few rows make
    large; else it is the normal one of paired differences.

    Args:
        before, after: (n,) how good each answer is, higher is better.
        share: whether an answer is right or wrong.
        forms: how many models are compared to the first one; the doubt is shared out among them (Bonferroni).
    """
    sure = NormalDist().inv_cdf(1 - RISK / max(forms, 1))
    lost = before - after
    mean, rows = float(lost.mean()), len(lost)
    if not share:
        error = float(lost.std(ddof=1)) / math.sqrt(rows) if rows > 1 else 0.0
        return Drop(100 * mean, 100 * (mean + sure * error))
    worse, better = float((lost > 0).sum()), float((lost < 0).sum())
    above = _wilson(worse, rows, sure)[1] - worse / rows
    below = better / rows - _wilson(better, rows, sure)[0]
    return Drop(100 * mean, 100 * (mean + math.hypot(above, below)))


def unseen(rows: int, forms: int = 1) -> float:
    """Return the share of rows below which with 95 % confidence lie those that went wrong, where none of `rows` did."""
    return _wilson(0, rows, NormalDist().inv_cdf(1 - RISK / max(forms, 1)))[1]


def _wilson(hits: float, rows: int, sure: float) -> tuple[float, float]:
    """Return the Wilson score interval of a share, `sure` standard errors wide on each side."""
    share, square = hits / rows, sure**2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = sure / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def pareto(merits: Mapping[str, Merit]) -> list[str]:
    """Return the models that no other one is better than in every way."""
    return [
        name
        for name, merit in merits.items()
        if not any(other.over(merit) for each, other in merits.items() if each != name)
    ]


def agreement(before: Sequence[object], after: Sequence[object]) -> float:
    """Return the share of equal answers; numbers count as equal within a hundredth of their spread."""
    if before and all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in [*before, *after]):
        one, other = np.array(before, np.float64), np.array(after, np.float64)
        return float((np.abs(one - other) <= 0.01 * max(float(one.std()), 1e-12)).mean())
    return float(np.mean([a == b for a, b in zip(before, after, strict=True)])) if before else 1.0
