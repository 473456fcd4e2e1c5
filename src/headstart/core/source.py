"""Tables in and out: the Source contract and the Table it streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

Table = dict[str, list[Any]]
"""Named columns of equal length. A missing cell is None; cells of text files are str."""


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say about how to read a table; None means: find out.

    Args:
        encoding: text encoding such as `utf-8` or `cp1252`.
        delimiter: the character between cells of a delimited file.
    """

    encoding: str | None = None
    delimiter: str | None = None


class TableWriter(ABC):
    """An open table that accepts chunks; it appears under its name only when closed without an error."""

    @abstractmethod
    def write(self, table: Table) -> None:
        """Append rows. Every chunk has the columns of the first."""


class Source(ABC):
    """One kind of place that tables are read from or written to (one file in `sources/`)."""

    reads: str = ""
    """What it reads, for `allowed` sentences, such as `.csv files`."""

    writes: str = ""
    """What it writes, for `allowed` sentences; empty where it only reads."""

    @abstractmethod
    def claims(self, reference: Any) -> bool:
        """Return whether this source reads or writes `reference` (a path, URL or frame)."""

    @abstractmethod
    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield the table as chunks of at most `rows` rows, in constant memory.

        The first chunk comes even when the table has no rows, so that the columns are known.

        Raises:
            DataError: what is there cannot be read; the sentence names the line.
        """

    @abstractmethod
    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Open `reference` for writing, atomically: nothing appears there unless the block ends well.

        Raises:
            UsageError: this source cannot be written to.
        """

    def notes(self, reference: Any, options: ReadOptions) -> Mapping[str, str]:
        """Return what was found out while reading (encoding, delimiter), for the user to see."""
        return {}
