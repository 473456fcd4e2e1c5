"""Regularised logistic regression over a path of strengths, warm-started, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

STEPS = 60
"""L-BFGS iterations for one strength; a warm start leaves little to do."""

SMALL = 1_000_000
"""Rows times scores below which one thread is fastest."""


def path(x: np.ndarray, y: np.ndarray, strengths: Sequence[float]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield weights (d, width) and bias (width,) for growing C, each fit starting from the last.

    Minimises the mean loss plus ||weights||² / (2 C n): scikit-learn's C. Softmax loss where each row of `y` sums to 1,
    and squared loss or logistic loss for each column otherwise.

    Args:
        x: standardised features (n, d) float32.
        y: (n, width) float32: one-hot rows, or 0/1 marks.
        strengths: C, from strong regularisation to weak.
    """
    rows, width = y.shape
    inputs = np.concatenate([x, np.ones((rows, 1), np.float32)], axis=1)
    shares = np.clip(y.mean(axis=0), 1e-6, 1 - 1e-6)
    exclusive = bool(np.allclose(y.sum(axis=1), 1.0)) and width > 1
    flat = np.zeros((inputs.shape[1], width), np.float64)
    flat[-1] = np.log(shares) if exclusive else np.log(shares / (1 - shares))
    for strength in strengths:
        # Thousands of small products: on one thread they take a quarter of the time that two threads take.
        with threadpool_limits(1 if rows * width < SMALL else None):
            found = minimize(
                _loss,
                flat.ravel(),
                args=(inputs, y, 1.0 / (strength * rows), exclusive),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": STEPS, "maxcor": 10},
            )
        flat = found.x.reshape(flat.shape)
        yield flat[:-1].astype(np.float32), flat[-1].astype(np.float32)


def _loss(flat: np.ndarray, x: np.ndarray, y: np.ndarray, penalty: float, exclusive: bool) -> tuple[float, np.ndarray]:
    weights = flat.reshape(x.shape[1], y.shape[1]).astype(np.float32)
    z = x @ weights
    rows = len(x)
    if exclusive:
        z -= z.max(axis=1, keepdims=True)
        chances = np.exp(z)
        total = chances.sum(axis=1, keepdims=True)
        value = float((np.log(total[:, 0]) - (z * y).sum(axis=1)).sum(dtype=np.float64))
        chances /= total
    else:
        value = float(np.logaddexp(0, np.where(y == 1, -z, z)).sum(dtype=np.float64))
        chances = 0.5 * (1 + np.tanh(0.5 * z))
    slope = (x.T @ (chances - y)).astype(np.float64) / rows
    own = weights[:-1].astype(np.float64)
    slope[:-1] += penalty * own
    return value / rows + 0.5 * penalty * float((own * own).sum()), slope.ravel()
