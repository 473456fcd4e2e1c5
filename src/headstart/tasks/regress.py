"""Predict a number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np

from headstart.core import metrics
from headstart.core.dataset import as_text
from headstart.core.errors import DataError
from headstart.core.task import Task

COVERAGE = 0.9
"""Share of rows whose true value lies between `t_low` and `t_high`."""


def number(cell: Any) -> float:
    """Return a cell as a finite number, or NaN."""
    try:
        value = float(as_text(cell)) if not isinstance(cell, (int, float)) else float(cell)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


@final
@dataclass(frozen=True)
class Regress(Task):
    """A number. A head's score is the value on the standardised scale, (n, 1).

    Args:
        target: the column.
        mean: of the training values.
        scale: their standard deviation.
        half: half the width of the 90 % interval, by split conformal prediction; None where it was not measured.
    """

    target: str
    mean: float
    scale: float
    half: float | None = None
    primary = "r2"

    @classmethod
    def claims(cls, cells: Sequence[Any]) -> int:
        """Return 2 where the cells are numbers of more than 20 different values."""
        values = np.array([number(cell) for cell in cells])
        if len(values) == 0 or np.isnan(values).mean() > 0.05:
            return 0
        different = len(np.unique(values[~np.isnan(values)]))
        whole = bool(np.all(values[~np.isnan(values)] % 1 == 0))
        return 2 if different > (20 if not whole else max(20, 0.02 * len(values))) else 0

    @classmethod
    def of(cls, target: str, cells: Sequence[Any]) -> Regress:
        """Learn mean and scale."""
        values = np.array([number(cell) for cell in cells])
        if np.isnan(values).any():
            bad = cells[int(np.flatnonzero(np.isnan(values))[0])]
            raise DataError(
                f"The target '{target}' holds '{as_text(bad)[:40]}', which is not a number.",
                hint="Repair the cell or blank it, or use --task classify.",
            )
        if values.std() == 0:
            raise DataError(f"The target '{target}' is always {values[0]:g}: there is nothing to learn.")
        return cls(target, float(values.mean()), float(values.std()))

    @property
    def width(self) -> int:
        """One score."""
        return 1

    def spec(self) -> dict[str, Any]:
        """Return its fields as plain JSON data."""
        return {"name": "regress", **asdict(self)}

    @classmethod
    def load(cls, spec: Mapping[str, Any]) -> Regress:
        """Make the task from its spec."""
        return cls(**{name: value for name, value in spec.items() if name != "name"})

    def encode(self, cells: Sequence[Any]) -> np.ndarray:
        """Return standardised values (n,).

        Raises:
            DataError: a cell is not a number.
        """
        values = np.array([number(cell) for cell in cells], dtype=np.float64)
        if np.isnan(values).any():
            bad = cells[int(np.flatnonzero(np.isnan(values))[0])]
            raise DataError(f"The target '{self.target}' holds '{as_text(bad)[:40]}', which is not a number.")
        return (values - self.mean) / self.scale

    def calibrate(self, scores: np.ndarray, y: np.ndarray, precision: float) -> Regress:
        """Choose the interval's half width on held-out scores (split conformal, Vovk et al., 2005)."""
        errors = np.abs(self.calibrated(scores)[:, 0] - (y * self.scale + self.mean))
        level = min(1.0, math.ceil((len(y) + 1) * COVERAGE) / len(y))
        return replace(self, half=float(np.quantile(errors, level, method="higher")))

    def without_signal(self) -> Regress:
        """Return this task for constant scores."""
        return self

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Return values (n, 1) on the target's own scale."""
        return scores.astype(np.float64) * self.scale + self.mean

    def decode(self, scores: np.ndarray) -> dict[str, list[Any]]:
        """Return the value and its 90 % interval."""
        values, half = self.calibrated(scores)[:, 0], self.half or 0.0
        digits = max(0, 4 - math.floor(math.log10(self.scale)))
        return {
            self.target: [round(float(value), digits) for value in values],
            f"{self.target}_low": [round(float(value) - half, digits) for value in values],
            f"{self.target}_high": [round(float(value) + half, digits) for value in values],
        }

    def answer_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for the three answer columns."""
        return {
            self.target: {"type": "number", "description": "The predicted value."},
            f"{self.target}_low": {"type": "number", "description": "Lower end of the 90 % interval."},
            f"{self.target}_high": {"type": "number", "description": "Upper end of the 90 % interval."},
        }

    def correct(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return 1 - squared error / variance per row; its mean is R²."""
        return 1.0 - (scores[:, 0] - y) ** 2 / max(float(y.var()), 1e-12)

    def gain(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return per row how much smaller the squared error is than that of the training mean."""
        return y**2 - (scores[:, 0] - y) ** 2

    def majority(self) -> np.ndarray:
        """Return the training mean as a constant score."""
        return np.zeros(1, dtype=np.float32)

    def metrics(self, scores: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Return R², mean absolute error, root mean squared error and interval coverage."""
        errors = np.abs(scores[:, 0] - y) * self.scale
        inside = errors <= (self.half or 0.0)
        drawn = np.random.default_rng(0).integers(0, len(y), size=(200, len(y)))
        squares = (scores[:, 0] - y) ** 2
        r2 = 1 - squares[drawn].mean(axis=1) / np.maximum(y[drawn].var(axis=1), 1e-12)
        return {
            "rows": len(y),
            "r2": float(1 - squares.mean() / max(float(y.var()), 1e-12)),
            "r2_ci": metrics.bounded(r2),
            "mae": float(errors.mean()),
            "mae_ci": metrics.mean_interval(errors),
            "rmse": float(math.sqrt((errors**2).mean())),
            "interval_coverage": float(inside.mean()),
            "interval_coverage_ci": metrics.wilson(inside.sum(), len(y)),
        }
