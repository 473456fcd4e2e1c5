"""Structured pruning of a linear layer: channels of its input are left out for good, and the others do their work too.

The layer is fitted again by least squares on what flows through it, so no gradient is needed. A channel's importance is
how much the error of that fit grows without it (the optimal brain surgeon: Hassibi and Stork 1993; of whole structures
of a transformer: Kurtic and others 2023, "ZipLM", arXiv:2302.04089).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

RIDGE = 0.01
"""How strongly weights are drawn to what they were, as a share of the mean variance of a channel."""
STEP = 24
"""Parts in which channels are left out: after each, those that stay are weighed anew."""


@dataclass
class Moments:
    """Sums over tokens of a layer's input (channels) and of what it is to give (outputs).

    Args:
        channels, outputs: how many of each.
    """

    channels: int
    outputs: int
    count: int = 0
    sums: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        wide = self.channels + self.outputs
        self.sums, self.squares = np.zeros(wide), np.zeros((wide, self.channels))

    def add(self, given: np.ndarray, wanted: np.ndarray) -> None:
        """Add tokens: their input (tokens, channels) and wanted output (tokens, outputs), float32."""
        self.count += len(given)
        self.sums += np.concatenate([given.sum(axis=0, dtype=np.float64), wanted.sum(axis=0, dtype=np.float64)])
        self.squares[: self.channels] += given.T @ given
        self.squares[self.channels :] += wanted.T @ given

    def centred(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the means of input and output, the input's covariance, and that of output and input."""
        mean = self.sums / self.count
        found = self.squares / self.count - np.outer(mean, mean[: self.channels])
        return mean[: self.channels], mean[self.channels :], found[: self.channels], found[self.channels :]


@dataclass(frozen=True)
class Pruned:
    """A linear layer of fewer channels: which stay (k,), weights (outputs, k) and bias (outputs,), float32."""

    kept: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


def pruned(moments: Moments, weight: np.ndarray, keep: int, wide: int = 1) -> Pruned:
    """Return a linear layer with some of its channels.

    It minimises E|W x + b - y|² + ridge |W - weight|² over the weights of the channels that stay. The least important
    channels are left out in `STEP` parts, and what they gave is made up for by the others after each.

    Args:
        moments: of its input x and of the wanted output y.
        weight: (outputs, channels), as it was.
        keep: how many groups of channels stay, at least 1.
        wide: neighbouring channels that stay or go together, such as those of an attention head.
    """
    x_mean, y_mean, covariance, cross = moments.centred()
    ridge = RIDGE * float(np.trace(covariance)) / len(covariance) + 1e-12
    inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    solved = (cross + ridge * weight) @ inverse
    groups = np.arange(len(inverse) // wide)
    step = max(1, -(-(len(groups) - keep) // STEP))
    while len(groups) > keep:
        worst = np.argsort(_growth(solved, inverse, wide), kind="stable")[: min(step, len(groups) - keep)]
        out = _columns(np.sort(worst), wide)
        stay = np.setdiff1d(np.arange(len(inverse)), out)
        share = np.linalg.solve(inverse[np.ix_(out, out)], inverse[np.ix_(out, stay)])
        solved = solved[:, stay] - solved[:, out] @ share
        inverse = inverse[np.ix_(stay, stay)] - inverse[np.ix_(stay, out)] @ share
        groups = np.delete(groups, worst)
    kept = _columns(groups, wide)
    bias = y_mean - solved @ x_mean[kept]
    return Pruned(kept, solved.astype(np.float32), bias.astype(np.float32))


def _columns(groups: np.ndarray, wide: int) -> np.ndarray:
    """Return the channels of some groups."""
    return (groups[:, None] * wide + np.arange(wide)).ravel()


def _growth(solved: np.ndarray, inverse: np.ndarray, wide: int) -> np.ndarray:
    """Return how much the error grows without each group of channels (groups,)."""
    if wide == 1:
        return (solved**2).sum(axis=0) / np.diag(inverse)
    found = []
    for each in range(len(inverse) // wide):
        own = _columns(np.array([each]), wide)
        found.append(float((solved[:, own] * np.linalg.solve(inverse[np.ix_(own, own)], solved[:, own].T).T).sum()))
    return np.array(found)
