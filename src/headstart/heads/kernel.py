"""Kernel ridge regression on dense features and n-grams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Sphere:
    """How dense features become points on the unit sphere: centred and scaled, then divided by their length.

    Args:
        reads: names of the arrays, concatenated in this order.
        mean, scale: (d,); None where the features are unit vectors already.
    """

    reads: Sequence[str] = ("embedding",)
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    @staticmethod
    def of(reads: Sequence[str], arrays: Arrays, scaled: bool) -> Sphere:
        """Learn mean and scale from training rows."""
        if not scaled:
            return Sphere(tuple(reads))
        x = np.concatenate([arrays[name] for name in reads], axis=1)
        deviation = x.std(axis=0)
        return Sphere(tuple(reads), x.mean(axis=0), np.where(deviation > 1e-9, 1 / np.maximum(deviation, 1e-9), 0))

    def points(self, arrays: Arrays) -> np.ndarray:
        """Return unit vectors (n, d) float32."""
        parts = [arrays[name] for name in self.reads]
        x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if self.mean is None or self.scale is None:
            return x
        x = ((x - self.mean) * self.scale).astype(np.float32)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


@final
class Kernel(Head):
    """Scores `share gaussian(features, points) @ dual + tfidf(text) @ weights + bias`.

    Args:
        gamma: the kernel's width.
        points: (m, d) training rows on the sphere, kept in float16.
        dual: (m, width) their coefficients, the kernel's share included.
        bias: (width,).
        vocabulary, weights: the n-grams and their (n-grams, width) weights in float16; None where they do not count.
        sphere: how features become points; the embedding as it is where None.
    """

    def __init__(
        self,
        gamma: float,
        points: np.ndarray,
        dual: np.ndarray,
        bias: np.ndarray,
        vocabulary: Vocabulary | None = None,
        weights: np.ndarray | None = None,
        sphere: Sphere | None = None,
    ) -> None:
        self.gamma, self.bias = float(gamma), bias.astype(np.float32)
        # The points are rounded once, here, so that a head answers alike before and after it was saved.
        self.points, self.dual = points.astype(np.float16), dual.astype(np.float32)
        self.vocabulary, self.sphere = vocabulary, sphere or Sphere()
        self.weights = None if weights is None else weights.astype(np.float16)
        self._points = self.points.astype(np.float32)

    @property
    def reads(self) -> Sequence[str]:
        """The dense features, and the text where n-grams count."""
        return (*self.sphere.reads, *(("text",) if self.vocabulary is not None else ()))

    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return (n, width)."""
        x = self.sphere.points(arrays)
        scores = np.tile(self.bias, (len(x), 1))
        for start in range(0, len(x), BLOCK):
            rows = slice(start, start + BLOCK)
            scores[rows] += gaussian(x[rows], self._points, self.gamma) @ self.dual
        if self.vocabulary is not None and self.weights is not None:
            scores += product(self.vocabulary.weigh(arrays["text"]), self.weights)
        return scores

    def spec(self) -> dict[str, Any]:
        """Return the kernel's width and what it reads."""
        return {"gamma": self.gamma, "reads": list(self.sphere.reads)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return points and coefficients, and scale and n-grams where they count."""
        arrays: dict[str, np.ndarray] = {"points": self.points, "dual": self.dual, "bias": self.bias}
        if self.sphere.mean is not None and self.sphere.scale is not None:
            arrays |= {"mean": self.sphere.mean.astype(np.float32), "scale": self.sphere.scale.astype(np.float32)}
        if self.vocabulary is not None and self.weights is not None:
            arrays |= {**self.vocabulary.arrays(), "weights": self.weights}
        return arrays

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Kernel:
        """Make the head from its settings and arrays."""
        vocabulary = Vocabulary.of(arrays) if "grams" in arrays else None
        sphere = Sphere(tuple(spec["reads"]), arrays.get("mean"), arrays.get("scale"))
        parts = (arrays["points"], arrays["dual"], arrays["bias"])
        return cls(spec["gamma"], *parts, vocabulary, arrays.get("weights"), sphere)
