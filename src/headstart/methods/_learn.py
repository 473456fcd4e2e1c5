"""What the entrants of a race share: targets as numbers to regress on, folds, and how two of them are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.core.method import Job
from headstart.core.split import folds
from headstart.core.task import Task


def indicators(task: Task, y: np.ndarray) -> np.ndarray:
    """Return targets (n, width) float32: one-hot classes, 0/1 marks, or values."""
    if task.width == 1:
        return y.reshape(-1, 1).astype(np.float32)
    if y.ndim == 2:
        return y.astype(np.float32)
    return np.eye(task.width, dtype=np.float32)[y]


def strata(task: Task, y: np.ndarray) -> np.ndarray:
    """Return stratum numbers (n,) to spread evenly: classes, the rarest mark, or fifths of the values."""
    if y.ndim == 2:
        rarity = np.where(y.sum(axis=0) > 0, 1.0 / np.maximum(y.sum(axis=0), 1), 0)
        return np.where(y.any(axis=1), (y * rarity).argmax(axis=1), y.shape[1]).astype(np.int64)
    if task.width == 1:
        return np.searchsorted(np.quantile(y, [0.2, 0.4, 0.6, 0.8]), y).astype(np.int64)
    return y


def job_folds(job: Job, count: int) -> np.ndarray:
    """Return a fold number for each row, groups whole."""
    return folds(strata(job.task, job.y), job.groups, count, job.seed)


def subsample(job: Job, rows: int) -> np.ndarray:
    """Return about `rows` rows, spread over the strata by whole groups, sorted; all rows where there are fewer."""
    if len(job.y) <= rows:
        return np.arange(len(job.y))
    fold = folds(strata(job.task, job.y), job.groups, -(-len(job.y) // rows), job.seed)
    return np.flatnonzero(fold == 0)


def merit(task: Task, scores: np.ndarray, y: np.ndarray) -> float:
    """Return how well held-out scores explain `y`, higher is better: mean log-likelihood at the best temperature.

    For numbers it is minus the mean squared error. Unlike accuracy it tells two good entrants apart on few rows.
    """
    if task.width == 1:
        return -float(((scores[:, 0] - y) ** 2).mean())
    # Certified thresholds are not wanted here, so the temperature search is run alone.
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(y))

    def loss(log_sharpness: float) -> float:
        z = scores * np.exp(log_sharpness)
        if y.ndim == 2:
            return float(np.logaddexp(0, np.where(y == 1, -z, z)).mean())
        top = z.max(axis=1)
        return float((np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[rows, y]).mean())

    found = minimize_scalar(loss, bounds=(-4.0, 5.0), method="bounded", options={"xatol": 0.02, "maxiter": 25})
    return -float(found.fun)


@dataclass(frozen=True)
class Scaled:
    """Standardisation folded into a linear map: `x @ weights + bias` on raw features equals the fit on scaled ones."""

    mean: np.ndarray
    scale: np.ndarray

    @staticmethod
    def of(x: np.ndarray) -> Scaled:
        """Learn mean and scale (d,) of features (n, d)."""
        scale = x.std(axis=0)
        return Scaled(x.mean(axis=0), np.where(scale > 1e-9, scale, 1.0).astype(np.float32))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return standardised features."""
        return ((x - self.mean) / self.scale).astype(np.float32)

    def fold(self, weights: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights and bias for raw features."""
        raw = weights / self.scale[:, None]
        return raw.astype(np.float32), (bias - self.mean @ raw).astype(np.float32)
