"""Gradient-boosted trees as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.head import Head

NODE = ("value", "feature", "threshold", "missing_left", "left", "right", "leaf", "categorical", "bitset")
BLOCK = 4096
"""Rows walked at a time, which bounds memory at rows x trees."""


@final
class Trees(Head):
    """The sum of many regression trees, for each score, plus a baseline.

    All trees' nodes stand in one table; a row walks all trees at once, one level a step. A categorical node goes left
    where the category's bit is set in its 256-bit mask.

    Args:
        reads: the array of numbers (n, features), then arrays that are projected.
        roots: (rounds, width) number of each tree's first node.
        nodes: for each name of `NODE`, (nodes,).
        bitsets: (masks, 8) uint32.
        baseline: (width,) what is added to each score.
        center, components: projection of the arrays after the first: `(x - center) @ components`.
        binary: whether the one score is the log-odds of the second of two classes.
    """

    def __init__(
        self,
        reads: Sequence[str],
        roots: np.ndarray,
        nodes: Mapping[str, np.ndarray],
        bitsets: np.ndarray,
        baseline: np.ndarray,
        center: np.ndarray | None = None,
        components: np.ndarray | None = None,
        binary: bool = False,
    ) -> None:
        self.binary = binary
        self._reads, self.roots, self.nodes = tuple(reads), roots, dict(nodes)
        self.bitsets, self.baseline, self.center, self.components = bitsets, baseline, center, components

    @property
    def reads(self) -> Sequence[str]:
        """The rows, and what their projection is made of."""
        return self._reads

    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return (n, width)."""
        x = design(arrays, self.reads, self.center, self.components)
        blocks = [self._walk(x[start : start + BLOCK]) for start in range(0, len(x), BLOCK)]
        scores = np.concatenate(blocks) if blocks else np.zeros((0, len(self.baseline)), np.float32)
        return np.concatenate([-0.5 * scores, 0.5 * scores], axis=1) if self.binary else scores

    def _walk(self, x: np.ndarray) -> np.ndarray:
        nodes, rows = self.nodes, np.arange(len(x))[:, None]
        at = np.tile(self.roots.reshape(1, -1), (len(x), 1))
        while True:
            moving = ~nodes["leaf"][at]
            if not moving.any():
                break
            value = x[rows, nodes["feature"][at]]
            missing = np.isnan(value)
            left = np.where(missing, nodes["missing_left"][at], value <= nodes["threshold"][at])
            if len(self.bitsets):
                known = np.where(missing | (value < 0) | (value > 255), 0, value).astype(np.int64)
                mask = self.bitsets[nodes["bitset"][at], known >> 5]
                chosen = (mask >> (known & 31).astype(np.uint32)) & 1
                left = np.where(nodes["categorical"][at] & ~missing, chosen.astype(bool), left)
            at = np.where(moving, np.where(left, nodes["left"][at], nodes["right"][at]), at)
        sums = nodes["value"][at].reshape(len(x), *self.roots.shape).sum(axis=1)
        return (sums + self.baseline).astype(np.float32)

    def spec(self) -> dict[str, Any]:
        """Return the names it reads, and whether it is binary."""
        return {"reads": list(self.reads), "binary": self.binary}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all tables."""
        arrays = {"roots": self.roots, "bitsets": self.bitsets, "baseline": self.baseline}
        arrays |= {f"node_{name}": self.nodes[name] for name in NODE}
        if self.center is not None and self.components is not None:
            arrays |= {"center": self.center, "components": self.components}
        return arrays

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Trees:
        """Make the head from its settings and arrays."""
        nodes = {name: arrays[f"node_{name}"] for name in NODE}
        return cls(
            spec["reads"],
            arrays["roots"],
            nodes,
            arrays["bitsets"],
            arrays["baseline"],
            arrays.get("center"),
            arrays.get("components"),
            spec["binary"],
        )


def design(
    arrays: Arrays, reads: Sequence[str], center: np.ndarray | None, components: np.ndarray | None
) -> np.ndarray:
    """Return the numbers that trees read: the first array, then the projection of the others."""
    first = arrays[reads[0]].astype(np.float32)
    if center is None or components is None:
        return first
    rest = np.concatenate([arrays[name] for name in reads[1:]], axis=1)
    return np.concatenate([first, ((rest - center) @ components).astype(np.float32)], axis=1)
