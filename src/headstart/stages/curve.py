"""Learning curve: how good methods are at smaller sizes of the same training rows, and what more labels promise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.core.method import Job
from headstart.core.split import folds
from headstart.methods._learn import strata
from headstart.methods._quick import Quick

ORDERS = 5
"""Orders in which labels might have come; as many folds of rows, one of which each order leaves out."""
MOST = 6
"""Sizes that are measured."""
GROUPS = 30
"""Groups of near twins below which nothing is said: too few of them can be left out."""
DRAWS = 200
"""Bootstrap draws behind each band."""
LEAST_ROWS, LEAST_PER_CLASS = 40, 3
"""Labels below which no curve is drawn."""
FEW_PER_CLASS = 5
"""Labels of a class below which curves bend in ways that no family of curves knows."""
HORIZON, NEAR_HORIZON = 8.0, 3.0
"""How many times today's labels a forecast reaches; the second where there are few of each class."""
WORTH = 0.005
"""Share of rows by which a pretrained model must lead in order to pay."""


@dataclass(frozen=True)
class Measured:
    """One method's curve as it was measured.

    Args:
        sizes: (s,) rows learnt from, growing; four fifths of all rows at most.
        right: (s, n) how good the held-out answers of each row were, averaged over the orders.
        luck: (s,) standard deviation of the mean between orders: what other rows to learn from would change.
    """

    sizes: np.ndarray
    right: np.ndarray
    luck: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """One minus the task's primary metric, (s,)."""
        return 1 - self.right.mean(axis=1)


def too_few(job: Job) -> str:
    """Return why no curve can be drawn of these rows, or an empty text."""
    rows, width = len(job.y), job.task.width
    if rows < LEAST_ROWS:
        return f"{rows} labels are too few for a curve: it takes {LEAST_ROWS}"
    if width > 1 and rows < LEAST_PER_CLASS * width:
        return f"{rows} labels for {width} classes are too few for a curve: it takes {LEAST_PER_CLASS} of each"
    groups = len(np.unique(job.groups))
    if groups < GROUPS:
        return f"the rows form only {groups} groups that belong together, too few to leave out one after the other"
    return ""


def sizes_of(rows: int, width: int) -> np.ndarray:
    """Return the sizes to measure (s,), each a constant factor above the last: 4 to 6, from two rows a class on.

    >>> sizes_of(924, 77).tolist()
    [154, 280, 508, 924]
    """
    classes = max(width, 8)
    low = max(2 * classes if rows >= 6 * classes else classes, rows // 32)
    count = int(np.clip(round(np.log2(rows / low) / 0.75) + 1, 4, MOST))
    return np.unique(np.round(np.geomspace(low, rows, count)).astype(int))


def nested(job: Job, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an order of some rows, in which every beginning has its share of each class, and where groups end."""
    kinds = strata(job.task, job.y)[rows]
    _, number = np.unique(job.groups[rows], return_inverse=True)
    order = np.argsort(number, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(number))[:-1])
    own = np.array([np.bincount(kinds[part]).argmax() for part in parts])
    rng = np.random.default_rng(seed)
    place = np.empty(len(parts))
    for kind in np.unique(own):
        some = rng.permutation(np.flatnonzero(own == kind))
        place[some] = (np.arange(len(some)) + rng.random(len(some))) / len(some)
    ranked = [rows[parts[each]] for each in np.argsort(place, kind="stable")]
    return np.concatenate(ranked), np.cumsum([len(part) for part in ranked])


def measure(job: Job, stand_in: Quick) -> Measured:
    """Return how good a method is at growing sizes of the job's rows, judged on rows that it did not learn from.

    Each order leaves out a fold of the rows and learns from beginnings of the rest. So every row is judged at every
    size, and no difference between sizes is the luck of other rows to judge on.
    """
    fold = folds(strata(job.task, job.y), job.groups, ORDERS, job.seed)
    rows = len(job.y)
    wanted = sizes_of(rows - int(np.bincount(fold).max()), job.task.width)
    sums, counts = np.zeros((len(wanted), rows)), np.zeros((len(wanted), rows))
    means, sizes = np.zeros((len(wanted), ORDERS)), np.zeros((len(wanted), ORDERS))
    for number in range(ORDERS):
        order, ends = nested(job, np.flatnonzero(fold != number), job.seed + number)
        for place, size in enumerate(wanted):
            cut = int(ends[np.searchsorted(ends, size)])
            others = np.setdiff1d(np.arange(rows), order[:cut])
            right = job.task.correct(stand_in.scores(job, np.sort(order[:cut]), others), job.y[others])
            sums[place, others] += right
            counts[place, others] += 1
            means[place, number], sizes[place, number] = right.mean(), cut
    sizes = sizes.mean(axis=1)
    kept = np.flatnonzero(np.diff(sizes, prepend=0) > 0.1 * sizes)
    errors = 1 - sums.sum(axis=1) / counts.sum(axis=1)
    luck = _luck(means, errors, sizes / rows)
    return Measured(sizes[kept], (sums / counts)[kept], luck[kept])


def _luck(means: np.ndarray, errors: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return how much the mean error would differ with other rows to learn from, (s,).

    Args:
        means: (s, orders) of each order.
        shares: (s,) of all rows that are learnt from. Above a half, orders share most of their rows and judge on few:
            what they differ by says little then, and the luck of the last size below is shrunk as the error is.
    """
    single = means.std(axis=1, ddof=1)
    apart = shares <= 0.5
    last = int(np.flatnonzero(apart)[-1]) if apart.any() else 0
    shrunk = single[last] * np.minimum(errors / max(errors[last], 1e-9), 1.0)
    return np.where(apart, single / np.sqrt(means.shape[1]), shrunk)


def draws_of(measured: Measured, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return bootstrap draws (draws, s) of a curve's errors: other rows to judge on, other rows to learn from."""
    rng = np.random.default_rng(seed)
    _, number = np.unique(groups, return_inverse=True)
    count = int(number.max()) + 1
    weight = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)[:, number].astype(np.float64)
    errors = 1 - (weight @ measured.right.T) / np.maximum(weight.sum(axis=1, keepdims=True), 1)
    return np.clip(errors + rng.normal(size=errors.shape) * measured.luck, 0.0, None)
