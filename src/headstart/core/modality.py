"""The Modality contract: from cells of a table to named arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.backbone import Network
from headstart.core.source import Table

HANDCRAFTED = "_handcrafted"
"""How the names of hand-crafted features end."""


class Modality(ABC):
    """One kind of input (one file in `modalities/`), bound to the columns it reads.

    Several modalities may read one row side by side: their arrays are merged by name. What a modality learnt
    from training rows (category names, scales) is its `spec`, plain data that travels in the bundle.
    """

    pretrained: bool = False
    """Whether a pretrained network can read this modality."""

    files: bool = False
    """Whether its cells are files (pictures, recordings), which commands and sources turn into Blobs."""

    at_once: int = 2048
    """Rows that are encoded and run through the network at a time, which bounds memory."""

    @property
    @abstractmethod
    def columns(self) -> Sequence[str]:
        """The columns it reads."""

    @classmethod
    @abstractmethod
    def fit(cls, table: Table, columns: Sequence[str], kinds: Mapping[str, str]) -> Modality:
        """Learn what must be learnt from training rows; `kinds` gives each column's inferred kind."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return all that `of` needs to make this modality again, as plain JSON data."""

    @classmethod
    @abstractmethod
    def of(cls, spec: Mapping[str, Any]) -> Modality:
        """Make a modality from its spec."""

    def bind(self, network: Network) -> Modality:
        """Return this modality with what the network's own preprocessing asks for (a tokenizer, a pixel size)."""
        return self

    def encode(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return what the network reads, made from what `prepare` gave; asked only of a bound modality."""
        return dict(arrays)

    @abstractmethod
    def schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each column's cell, with `description` and `examples`, for the server's docs."""

    @abstractmethod
    def prepare(self, table: Table) -> dict[str, np.ndarray]:
        """Turn the cells of its columns into the named arrays that heads read, one row each.

        A missing column is read as missing cells.

        Raises:
            DataError: a cell cannot be read; the sentence names row and column.
        """

    def contents(self, arrays: Arrays) -> Sequence[str | bytes]:
        """Return what identifies each row's content, for the cache of vectors; asked only of a pretrained modality."""
        raise TypeError(f"{type(self).__name__} is read by no pretrained network, so nothing of it is cached.")

    def unreadable(self, table: Table) -> dict[int, str]:
        """Return the rows that cannot be read, with the reason; they are left out before training."""
        return {}

    def handcrafted(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return features (n, d) made without a pretrained network, from what `prepare` gave: the from-scratch view.

        Their names end in `_handcrafted`. Nothing where `prepare` gives such features already.
        """
        return {}

    def signatures(self, table: Table) -> np.ndarray | None:
        """Return a unit vector for each row, (n, d) float32, whose products are near 1 for near twins only; or None."""
        return None
