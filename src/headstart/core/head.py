"""The Head contract: the small fitted part between a network's outputs and a task's scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.core.arrays import Arrays


class Head(ABC):
    """A fitted function of named arrays (one file in `heads/`); numpy only, because it is what serves."""

    @property
    @abstractmethod
    def reads(self) -> Sequence[str]:
        """The names of the arrays that `scores` needs."""

    @abstractmethod
    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return float32 scores of shape (n, width)."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return its settings as plain JSON data (no arrays)."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Return its fitted arrays by name."""

    @classmethod
    @abstractmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Head:
        """Make a head from its settings and arrays."""
