"""A weighted sum of other heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.head import Head
from headstart.core.registry import Registry


@final
class Blend(Head):
    """Scores `sum(weight * head.scores)`.

    Args:
        parts: heads with their weights.
    """

    def __init__(self, parts: Sequence[tuple[float, Head]]) -> None:
        self.parts = tuple(parts)

    @property
    def reads(self) -> Sequence[str]:
        """All that its parts read."""
        return tuple(dict.fromkeys(name for _, head in self.parts for name in head.reads))

    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return (n, width)."""
        weight, head = self.parts[0]
        total = weight * head.scores(arrays)
        for weight, head in self.parts[1:]:
            total += weight * head.scores(arrays)
        return total.astype(np.float32)

    def spec(self) -> dict[str, Any]:
        """Return each part's kind, weight and settings."""
        return {
            "parts": [
                {"kind": type(head).__module__.rpartition(".")[2], "weight": weight, "settings": head.spec()}
                for weight, head in self.parts
            ]
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the parts' arrays, each name behind its part's number."""
        return {
            f"{number}.{name}": value
            for number, (_, head) in enumerate(self.parts)
            for name, value in head.arrays().items()
        }

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Blend:
        """Make the head from its settings and arrays."""
        kinds: Registry[Head] = Registry("headstart.heads", Head)
        parts = []
        for number, part in enumerate(spec["parts"]):
            own = {name.partition(".")[2]: v for name, v in arrays.items() if name.partition(".")[0] == str(number)}
            parts.append((float(part["weight"]), kinds.get(part["kind"]).of(part["settings"], own)))
        return cls(parts)
