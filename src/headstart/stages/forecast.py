"""Forecast: how the error falls with more labels, by two families of curves and all that a few sizes leave open.

A handful of noisy sizes does not settle a curve with three parameters, and the best fit alone is often far off. So all
curves of a grid are kept, each with the weight that the measured errors give it, and the forecast is their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FLOORS = np.linspace(0.0, 0.95, 20)
"""Shares of today's error that remain however many rows there are."""
EXPONENTS = np.geomspace(0.1, 1.5, 24)
HALVES = np.geomspace(1e-3, 8.0, 22)
"""Sizes, in today's rows, at which half of what can be learnt is learnt."""
HOPE = 2.0
"""How much less likely a curve is that has nothing left to learn, as a power of e. Chosen with the two below on nine
tables of texts (benchmarks/curves.py) as what errs neither way on average and keeps nine in ten truths in the band."""
START, BLANK_START = 0.1, 0.05
"""How far the error without any row may lie from that of the best constant answer, relative to it; the second where
nothing was learnt beforehand."""
BENT = 0.01
"""How far real curves bend away from those of a family, relative to the error."""
FINEST = 0.001
TAIL = 0.05
"""Share of what is possible that lies above and below the band."""
POINTS, MASSES = np.array([-1.7320508, 0.0, 1.7320508]), np.array([1.0, 4.0, 1.0]) / 6.0
"""A normal distribution as three points (Gauss-Hermite)."""

Shape = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Family:
    """Curves `scale * shape(size)` that never rise, each with its weight.

    Args:
        shape: from sizes (t,) to (curves, t); 1 at today's size.
        scale, doubt: (curves,) the error at today's size and its standard deviation.
        weight: (curves,), 1 together.
    """

    shape: Shape
    scale: np.ndarray
    doubt: np.ndarray
    weight: np.ndarray

    def at(self, sizes: np.ndarray) -> np.ndarray:
        """Return the expected error (t,) at some sizes."""
        return self.weight @ (self.scale[:, None] * self.shape(np.asarray(sizes, np.float64)))


@dataclass(frozen=True)
class Forecast:
    """What the families make of a measured curve; they count alike.

    Args:
        families: pow3 and MMF, or MMF alone.
        worst: no error is greater.
    """

    families: Sequence[Family]
    worst: float

    def at(self, sizes: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the error expected at some sizes, and its 90 % band: three times (t,)."""
        wanted = np.asarray(sizes, np.float64)
        values, weights = [], []
        for each in self.families:
            curve = each.shape(wanted)
            for point, mass in zip(POINTS, MASSES, strict=True):
                values.append((each.scale + point * each.doubt)[:, None] * curve)
                weights.append(mass * each.weight)
        return self._summed(np.concatenate(values), np.concatenate(weights), self.worst)

    def ratio(self, base: float, sizes: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return by what the error at `base` rows is expected to be multiplied at some sizes, with its 90 % band.

        This is surer than the error itself: how hard the rows happen to be that were judged on drops out.
        """
        wanted = np.concatenate([[base], np.asarray(sizes, np.float64)])
        curves = np.concatenate([each.shape(wanted) for each in self.families])
        weights = np.concatenate([each.weight for each in self.families])
        return self._summed(curves[:, 1:] / curves[:, :1], weights, np.inf)

    @staticmethod
    def _summed(values: np.ndarray, weights: np.ndarray, most: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weights, values = weights / weights.sum(), np.clip(values, 0.0, most)
        middle = weights @ values
        low, high = np.empty_like(middle), np.empty_like(middle)
        for place, column in enumerate(values.T):
            order = np.argsort(column)
            below = np.cumsum(weights[order])
            ends = np.searchsorted(below, [TAIL, 1 - TAIL]).clip(max=len(column) - 1)
            low[place], high[place] = column[order][ends]
        return middle, np.minimum(low, middle), np.maximum(high, middle)


def forecast(
    sizes: np.ndarray, errors: np.ndarray, draws: np.ndarray, worst: float, today: float, *, blank: bool = False
) -> Forecast:
    """Weigh the curves of both families; of MMF alone for what began from nothing.

    Without anything learnt beforehand a curve begins at the worst error and falls slowly at first, as an S. A power law
    knows no such beginning and sees too little improvement ahead.

    Args:
        sizes: (s,) rows learnt from, growing.
        errors: (s,) as measured.
        draws: (draws, s) the same with other rows; how they differ is how far the errors are to be trusted.
        worst: the error without any row to learn from, that of the best constant answer.
        today: rows that there are, of which the sizes are a part.
        blank: whether nothing was learnt beforehand.
    """
    noise = np.atleast_2d(np.cov(draws.T))
    curves = mmf(sizes, errors, noise, worst, today, BLANK_START if blank else START)
    families = (curves,) if blank else (power(sizes, errors, noise, today), curves)
    return Forecast(families, max(worst, float(errors.max())))


def power(sizes: np.ndarray, errors: np.ndarray, noise: np.ndarray, today: float) -> Family:
    """Return power laws with a floor, `a n^-b + c` (pow3).

    Args:
        sizes, errors: (s,).
        noise: (s, s) covariance of the errors.
        today: where the shapes are 1.
    """
    floor, exponent = (each.ravel()[:, None] for each in np.meshgrid(FLOORS, EXPONENTS, indexing="ij"))

    def shape(wanted: np.ndarray) -> np.ndarray:
        return floor + (1 - floor) * (wanted / today) ** -exponent

    return _weighed(shape, floor[:, 0], sizes, errors, noise)


def mmf(
    sizes: np.ndarray, errors: np.ndarray, noise: np.ndarray, worst: float, today: float, start: float = START
) -> Family:
    """Return Morgan-Mercer-Flodin curves, `c + (a - c) / (1 + (n / h)^d)` with a near the worst error.

    Args:
        sizes, errors: (s,).
        noise: (s, s) covariance of the errors.
        worst: the error without any row to learn from.
        today: where the shapes are 1.
        start: how far a may lie from it, relative to it.
    """
    grid = np.meshgrid(FLOORS[::2], EXPONENTS[4::2], HALVES, indexing="ij")
    floor, exponent, half = (each.ravel()[:, None] for each in grid)

    def shape(wanted: np.ndarray) -> np.ndarray:
        return floor + (1 - floor) * (1 + (1 / half) ** exponent) / (1 + (wanted / today / half) ** exponent)

    wider = np.zeros((len(sizes) + 1, len(sizes) + 1))
    wider[0, 0], wider[1:, 1:] = (start * worst) ** 2, noise
    return _weighed(shape, floor[:, 0], np.append(0.0, sizes), np.append(worst, errors), wider)


def _weighed(shape: Shape, floor: np.ndarray, sizes: np.ndarray, errors: np.ndarray, noise: np.ndarray) -> Family:
    """Return each curve at the scale that fits the errors best, with the weight that its fit gives it."""
    # Two sizes are judged on the same rows, so their difference is surer than either; the covariance says so.
    trust = np.linalg.inv(noise + np.diag((BENT * errors) ** 2 + FINEST**2))
    curves = shape(np.asarray(sizes, np.float64))
    across, own = curves @ trust @ errors, np.einsum("gs,st,gt->g", curves, trust, curves)
    scale = np.maximum(across / own, 0.0)
    misfit = own * scale**2 - 2 * scale * across
    score = -misfit / 2 - HOPE * floor
    weight = np.exp(score - score.max())
    return Family(shape, scale, 1 / np.sqrt(own), weight / weight.sum())
