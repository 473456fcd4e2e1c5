"""The Dataset noun: columns, which of them are inputs and targets, and where they came from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headstart.core.errors import DataError, listed, nearest
from headstart.core.source import Table


def is_blank(cell: Any) -> bool:
    """Return whether a cell holds nothing: None, NaN, NaT or only white space."""
    if cell is None:
        return True
    if isinstance(cell, str):
        return not cell.strip()
    if isinstance(cell, float):
        return math.isnan(cell)
    return type(cell).__name__ in ("NaTType", "NAType")


def as_text(cell: Any) -> str:
    """Return a cell as text; a blank cell is the empty text, and 3.0 is `3`."""
    if is_blank(cell):
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return cell if isinstance(cell, str) else str(cell)


def table_rows(table: Table) -> int:
    """Return how many rows a table has."""
    return len(next(iter(table.values()))) if table else 0


def take_rows(table: Table, rows: Sequence[int] | np.ndarray) -> Table:
    """Return some rows of a table, in the given order."""
    return {name: [cells[row] for row in rows] for name, cells in table.items()}


@dataclass(frozen=True)
class Dataset:
    """A table with a meaning.

    Args:
        table: all columns.
        inputs: for each modality, the columns that it reads.
        targets: the columns to predict.
        kinds: each column's inferred kind: `text`, `category`, `number`, `date`, `id`, `constant` or `empty`.
        origin: where it came from, for reports.
        notes: what was inferred, for the user to see.
    """

    table: Table
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    targets: Sequence[str] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return table_rows(self.table)

    @property
    def input_columns(self) -> list[str]:
        """All input columns, in order."""
        return [name for columns in self.inputs.values() for name in columns]

    def column(self, name: str) -> list[Any]:
        """Return one column.

        Raises:
            DataError: there is no such column; the nearest name is suggested.
        """
        if name not in self.table:
            raise DataError(
                f"There is no column '{name}' in {self.origin or 'the table'}.",
                allowed=f"Columns: {listed(self.table)}.",
                hint=nearest(name, self.table),
            )
        return self.table[name]

    def rows(self, rows: Sequence[int] | np.ndarray) -> Dataset:
        """Return the data set with only some rows."""
        return replace(self, table=take_rows(self.table, rows))

    def batches(self, size: int) -> Iterator[Table]:
        """Yield consecutive chunks of at most `size` rows."""
        for start in range(0, len(self), size):
            yield {name: cells[start : start + size] for name, cells in self.table.items()}

    def labelled(self, target: str) -> np.ndarray:
        """Return the numbers of the rows whose target cell is not blank."""
        return np.array([i for i, cell in enumerate(self.column(target)) if not is_blank(cell)], dtype=np.int64)

    def fingerprint(self) -> str:
        """Return a hash of inputs and targets: 32 hexadecimal digits, the same for the same cells in order."""
        digest = hashlib.blake2b(digest_size=16)
        for name in [*self.input_columns, *self.targets]:
            digest.update(f"\x1e{name}".encode())
            for cell in self.table[name]:
                digest.update(b"\x1f" + _content(cell))
        return digest.hexdigest()


def _content(cell: Any) -> bytes:
    """Return what tells a cell from others: the bytes of what holds them, such as a picture, else its text."""
    if isinstance(cell, bytes):
        return cell
    held = cell.tobytes() if hasattr(cell, "tobytes") else as_text(cell).encode("utf-8", "surrogatepass")
    return bytes(held)
