"""Kernel ridge regression on embeddings and n-grams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.head import Head
from headstart.heads._ngrams import Vocabulary, product

BLOCK = 1024
"""Rows answered at a time, which bounds memory at rows x points."""


def gaussian(left: np.ndarray, right: np.ndarray, gamma: float) -> np.ndarray:
    """Return exp(gamma (x·y - 1)) of unit vectors (n, d) and (m, d), the Gaussian kernel on the sphere, (n, m)."""
    similarity = left @ right.T
    similarity -= 1.0
    similarity *= gamma
    return np.exp(similarity, out=similarity)


@final
class Kernel(Head):
    """Scores `share gaussian(embedding, points) @ dual + tfidf(text) @ weights + bias`; reads `embedding` and `text`.

    Args:
        gamma: the kernel's width.
        points: (m, d) embeddings of training rows, kept in float16.
        dual: (m, width) their coefficients, the kernel's share included.
        bias: (width,).
        vocabulary, weights: the n-grams and their (n-grams, width) weights in float16; None where they do not count.
    """

    def __init__(
        self,
        gamma: float,
        points: np.ndarray,
        dual: np.ndarray,
        bias: np.ndarray,
        vocabulary: Vocabulary | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self.gamma, self.bias = float(gamma), bias.astype(np.float32)
        # The points are rounded once, here, so that a head answers alike before and after it was saved.
        self.points, self.dual = points.astype(np.float16), dual.astype(np.float32)
        self.vocabulary = vocabulary
        self.weights = None if weights is None else weights.astype(np.float16)
        self._points = self.points.astype(np.float32)

    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return (n, width)."""
        embedding = arrays["embedding"]
        scores = np.tile(self.bias, (len(embedding), 1))
        for start in range(0, len(embedding), BLOCK):
            rows = slice(start, start + BLOCK)
            scores[rows] += gaussian(embedding[rows], self._points, self.gamma) @ self.dual
        if self.vocabulary is not None and self.weights is not None:
            scores += product(self.vocabulary.weigh(arrays["text"]), self.weights)
        return scores

    def spec(self) -> dict[str, Any]:
        """Return the kernel's width."""
        return {"gamma": self.gamma}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return points and coefficients, and the n-grams where they count."""
        arrays: dict[str, np.ndarray] = {"points": self.points, "dual": self.dual, "bias": self.bias}
        if self.vocabulary is not None and self.weights is not None:
            arrays |= {**self.vocabulary.arrays(), "weights": self.weights}
        return arrays

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Kernel:
        """Make the head from its settings and arrays."""
        vocabulary = Vocabulary.of(arrays) if "grams" in arrays else None
        return cls(spec["gamma"], arrays["points"], arrays["dual"], arrays["bias"], vocabulary, arrays.get("weights"))
