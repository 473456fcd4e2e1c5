"""A head behind a projection of the embedding to fewer dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.head import Head
from headstart.core.registry import Registry


@final
class Projected(Head):
    """Scores of another head that reads `(embedding - mean) @ components`, brought to unit length.

    Args:
        inner: the head behind it.
        mean: (width,).
        components: (width, dimensions), kept in float16.
    """

    def __init__(self, inner: Head, mean: np.ndarray, components: np.ndarray) -> None:
        self.inner, self.mean = inner, mean.astype(np.float32)
        # Rounded once, here, so that a head answers alike before and after it was saved.
        self.components = components.astype(np.float16)
        self._components = self.components.astype(np.float32)

    @property
    def reads(self) -> Sequence[str]:
        """The embedding, and what the head behind it reads besides."""
        return tuple(dict.fromkeys(["embedding", *self.inner.reads]))

    def project(self, embedding: np.ndarray) -> np.ndarray:
        """Return vectors (n, dimensions) of unit length."""
        found = (embedding - self.mean) @ self._components
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return (n, width)."""
        return self.inner.scores({**arrays, "embedding": self.project(arrays["embedding"])})

    def spec(self) -> dict[str, Any]:
        """Return the kind and the settings of the head behind it."""
        return {"kind": type(self.inner).__module__.rpartition(".")[2], "settings": self.inner.spec()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the projection, and the arrays of the head behind it."""
        inner = {f"inner.{name}": value for name, value in self.inner.arrays().items()}
        return {"mean": self.mean, "components": self.components, **inner}

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Projected:
        """Make the head from its settings and arrays."""
        kinds: Registry[Head] = Registry("headstart.heads", Head)
        inner = {name.removeprefix("inner."): value for name, value in arrays.items() if name.startswith("inner.")}
        return cls(kinds.get(spec["kind"]).of(spec["settings"], inner), arrays["mean"], arrays["components"])


def components(embedding: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (width,) of vectors (n, width) and their principal components (width, dimensions)."""
    mean = embedding.mean(axis=0)
    centred = (embedding - mean).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return mean.astype(np.float32), vectors[:, ::-1][:, :dimensions].astype(np.float32)
