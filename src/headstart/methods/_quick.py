"""Quick stand-ins for probe and scratch: kernel ridge regression with settings chosen once.

They tell in a second how good a method is at some number of rows. They answer nobody. Rows are judged by fits that left
out a share of every class: leave-one-out, which the probe's own race uses, leaves the row's own class alone one row
short, which at ten rows a class looks four points worse than it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve

from headstart.core.arrays import take
from headstart.core.method import Job
from headstart.core.modality import HANDCRAFTED
from headstart.heads.kernel import Sphere, gaussian
from headstart.methods._learn import indicators, job_folds, merit, subsample
from headstart.methods._text import weigh

GAMMA = 2.0
FOLDS = 5
TRIAL = 500
"""Rows on which a kernel's settings are chosen."""
SHARES = (1.0, 0.85, 0.7, 0.5)
"""The embedding's share of the kernel; what needs no pretrained network has the rest."""
RIDGES = (0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Quick:
    """A kernel (n, n) between a job's rows, and how strongly the fit is held back."""

    kernel: np.ndarray
    ridge: float

    def scores(self, job: Job, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return scores (m, width) of the other rows where only `rows` are learnt from; both are row numbers."""
        y = indicators(job.task, job.y[rows])
        mean = y.mean(axis=0) if job.task.width == 1 else np.full(y.shape[1], 0.5 * (job.y.ndim == 2), np.float32)
        kernel = self.kernel[np.ix_(rows, rows)]
        kernel[np.diag_indices_from(kernel)] += self.ridge
        dual = solve(kernel, y - mean, assume_a="pos", overwrite_a=True, check_finite=False)
        return (self.kernel[np.ix_(others, rows)] @ dual + mean).astype(np.float32)


def stand_ins(job: Job) -> dict[str, Quick]:
    """Return the stand-in of `scratch`, of `probe`, or of both, as the job's features allow."""
    own, dense = _own(job), None
    if "embedding" in job.features:
        points = job.features["embedding"]
        dense = gaussian(points, points, GAMMA)
    found = {}
    if own is not None:
        found["scratch"] = _chosen(job, [own])
    if dense is not None:
        shares = SHARES if own is not None else SHARES[:1]
        mixed = [dense if share == 1 or own is None else share * dense + (1 - share) * own for share in shares]
        found["probe"] = _chosen(job, mixed)
    return found


def _own(job: Job) -> np.ndarray | None:
    """Return the kernel of what needs no pretrained network: n-grams, numbers and categories, hand-crafted features."""
    parts = []
    if "text" in job.features:
        texts = weigh(job).matrix
        parts.append(np.asarray((texts @ texts.T).toarray(), dtype=np.float32))
    names = sorted(name for name in job.features if name.endswith(HANDCRAFTED))
    for name in [*names, *({"row_scaled"} & set(job.features))]:
        points = Sphere.of((name,), job.features, scaled=True).points(job.features)
        parts.append(gaussian(points, points, GAMMA))
    return sum(parts[1:], parts[0]) / len(parts) if parts else None


def _chosen(job: Job, kernels: list[np.ndarray]) -> Quick:
    """Return the kernel and ridge whose held-out scores on a sample of rows have most merit."""
    rows = subsample(job, TRIAL)
    trial = replace(job, y=job.y[rows], features={}, groups=job.groups[rows], memo={})
    found = []
    for place, kernel in enumerate(kernels):
        part = kernel[np.ix_(rows, rows)]
        for ridge in RIDGES:
            found.append((merit(job.task, held_out(Quick(part, ridge), trial), trial.y), place, ridge))
    _, place, ridge = max(found)
    return Quick(kernels[place], ridge)


def held_out(stand_in: Quick, job: Job) -> np.ndarray:
    """Return scores (n, width) of each row by fits that left out its fold."""
    fold = job_folds(job, FOLDS)
    found = np.empty((len(job.y), job.task.width), np.float32)
    for each in range(FOLDS):
        found[fold == each] = stand_in.scores(job, np.flatnonzero(fold != each), np.flatnonzero(fold == each))
    return found


def sampled(job: Job, rows: int) -> Job:
    """Return the job with about `rows` of its rows, whole groups, classes spread evenly."""
    some = subsample(job, rows)
    return replace(job, y=job.y[some], features=take(job.features, some), groups=job.groups[some], memo={})
