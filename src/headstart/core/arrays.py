"""The waist of headstart: named arrays in, named arrays out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.errors import UsageError

Arrays = Mapping[str, np.ndarray]
"""Named arrays. The first axis counts rows, except in ragged pairs: `ids` (flat) with `lengths` (one a row)."""

VARIANT = "variant"
"""The array that says of which variant each row is, (n,) int32."""


class Session(ABC):
    """An opened network, ready to run on this machine."""

    variant: int = 0
    """Which variant of `shared` it is."""

    @property
    def shared(self) -> Session:
        """What runs its rows: itself, or a network that it shares with other variants, and whose passes they share."""
        return self

    def beside(self, rows: int) -> dict[str, np.ndarray]:
        """Return what `shared` reads beside the inputs of so many rows: of which variant each is."""
        return {} if self.shared is self else {VARIANT: np.full(rows, self.variant, np.int32)}

    @abstractmethod
    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the network's outputs, one row for each input row, in the same order."""

    def generate(self, arrays: Arrays, settings: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        """Yield what a generating network makes, step by step (tokens, samples, pictures).

        Raises:
            UsageError: it does not generate.
        """
        raise UsageError("This network does not generate.")

    def trainable(self) -> Any:
        """Return the network as PyTorch runs it, for methods that change weights.

        It has `module`, a `torch.nn.Module`; `run(tensors)`, which gives outputs that gradients flow through; and,
        where the network has a loss of its own, `loss(tensors)`, a tensor () of the answers that `core/objective.py`
        lists.

        Raises:
            UsageError: it does not run in PyTorch.
        """
        raise UsageError("This network does not run in PyTorch, so its weights cannot be changed.")


class Adaptable(Session):
    """An opened network with several low-rank adapters, of which each row names one by `variant` (n,) int32."""

    @abstractmethod
    def add(self, adapter: Path) -> int:
        """Take an adapter in, in peft's layout, and return the variant by which rows name it.

        Raises:
            HubError: it is no adapter, or changes something that is not adapted here; nothing has changed.
        """

    @abstractmethod
    def drop(self, variant: int) -> None:
        """Forget an adapter that no row will name any more."""


def row_count(arrays: Arrays) -> int:
    """Return how many rows the arrays describe (the length of `lengths`, or of any other array)."""
    if "lengths" in arrays:
        return len(arrays["lengths"])
    return len(next(iter(arrays.values()))) if arrays else 0


def take(arrays: Arrays, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of some rows. Arrays must not be ragged (features, not tokens)."""
    return {name: values[rows] for name, values in arrays.items()}


def joined(parts: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """Return the rows of several arrays of the same names behind one another; ragged pairs stay pairs."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def joined_vectors(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the vectors of several modalities side by side, each of unit length, so that the whole has it too."""
    unit = [
        (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)).astype(np.float32) for part in parts
    ]
    return unit[0] if len(unit) == 1 else np.concatenate(unit, axis=1) / np.float32(np.sqrt(len(unit)))
