"""Kernel ridge regression whose held-out scores come in closed form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, lapack


@dataclass(frozen=True)
class Solved:
    """Dual coefficients (n, width) and scores (n, width) of each row by the fit without its group."""

    dual: np.ndarray
    held_out: np.ndarray


def solve(kernel: np.ndarray, y: np.ndarray, ridge: float, groups: np.ndarray) -> Solved:
    """Solve (K + ridge I) dual = y and leave each group out.

    For a group g, its held-out scores are y_g - (inverse_gg)^-1 dual_g, which for a single row is the well-known
    leave-one-out formula (Rifkin & Lippert, 2007). O(n³), float32, in place of two copies of the kernel.

    Args:
        kernel: (n, n) symmetric, overwritten.
        y: (n, width), centred.
        groups: (n,) rows of one group are left out together.
    """
    kernel[np.diag_indices_from(kernel)] += ridge
    # Fortran order of a symmetric matrix is its transpose, so LAPACK works in place without a copy.
    factor, info = lapack.spotrf(kernel.T, lower=1, overwrite_a=1)
    if info:
        raise np.linalg.LinAlgError(f"The kernel is not positive definite at row {info}.")
    dual, _ = lapack.spotrs(factor, y.astype(np.float32), lower=1)
    inverse, _ = lapack.strtri(factor, lower=1, overwrite_c=1)
    # inverse is L^-1 with junk above the diagonal; K^-1 = L^-T L^-1, so K^-1_ij is a product of its columns.
    for column in range(1, len(inverse)):
        inverse[:column, column] = 0.0
    diagonal = np.einsum("ij,ij->j", inverse, inverse)
    held_out = y - dual / diagonal[:, None]
    for rows in _together(groups):
        columns = inverse[:, rows]
        block = blas.sgemm(1.0, columns, columns, trans_a=1).astype(np.float64)
        held_out[rows] = y[rows] - np.linalg.solve(block, dual[rows].astype(np.float64))
    return Solved(np.ascontiguousarray(dual), held_out.astype(np.float32))


def _together(groups: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each group of two and more."""
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [part for part in parts if len(part) > 1]


@dataclass(frozen=True)
class Landmarks:
    """Coefficients (m, width) of landmark points, and held-out scores (n, width) by folds."""

    dual: np.ndarray
    held_out: np.ndarray


def solve_landmarks(
    features: Iterable[np.ndarray], kernel: np.ndarray, y: np.ndarray, ridge: float, fold: np.ndarray
) -> Landmarks:
    """Solve the subset-of-regressors form of kernel ridge (Rasmussen & Williams, 2006, 8.3.1).

    Args:
        features: blocks of rows (…, m) of the kernel between all rows and the landmarks, in order; walked twice.
        kernel: (m, m) among the landmarks.
        y: (n, width), centred.
        fold: (n,) fold numbers; held-out scores come from the sums without the row's fold.
    """
    folds, size = int(fold.max()) + 1, len(kernel)
    squares = [np.zeros((size, size), np.float32) for _ in range(folds)]
    crosses = [np.zeros((size, y.shape[1]), np.float32) for _ in range(folds)]
    start = 0
    for block in features:
        own = slice(start, start + len(block))
        for each in range(folds):
            inside = block[fold[own] == each]
            squares[each] += inside.T @ inside
            crosses[each] += inside.T @ y[own][fold[own] == each]
        start += len(block)
    penalty = ridge * kernel + 1e-5 * len(y) * np.eye(size, dtype=np.float32)
    total, cross = sum(squares) + penalty, sum(crosses)
    dual = np.linalg.solve(total, cross)
    parts = [np.linalg.solve(total - squares[each], cross - crosses[each]) for each in range(folds)]
    held_out = np.empty(y.shape, np.float32)
    start = 0
    for block in features:
        for each in range(folds):
            rows = np.flatnonzero(fold[start : start + len(block)] == each)
            held_out[start + rows] = block[rows] @ parts[each]
        start += len(block)
    return Landmarks(dual.astype(np.float32), held_out)
