"""A linear map of one or several named arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.head import Head


@final
class Linear(Head):
    """Scores `concatenate(arrays[reads]) @ weights + bias`.

    Args:
        reads: names of the arrays, concatenated in this order.
        weights: (features, width).
        bias: (width,).
    """

    def __init__(self, reads: Sequence[str], weights: np.ndarray, bias: np.ndarray) -> None:
        self._reads, self.weights, self.bias = tuple(reads), weights.astype(np.float32), bias.astype(np.float32)

    @property
    def reads(self) -> Sequence[str]:
        """The arrays that are concatenated."""
        return self._reads

    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return (n, width)."""
        joined = [arrays[name] for name in self.reads]
        return (joined[0] if len(joined) == 1 else np.concatenate(joined, axis=1)) @ self.weights + self.bias

    def spec(self) -> dict[str, Any]:
        """Return the names it reads."""
        return {"reads": list(self.reads)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return weights and bias."""
        return {"weights": self.weights, "bias": self.bias}

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Linear:
        """Make the head from its settings and arrays."""
        return cls(spec["reads"], arrays["weights"], arrays["bias"])
