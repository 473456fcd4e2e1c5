"""Arrow columns to tables and back: what the Parquet, Arrow and frame sources share (no source itself)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, final

from headstart.core.errors import DataError, listed
from headstart.core.files import atomic_file
from headstart.core.registry import require
from headstart.core.source import Table, TableWriter
from headstart.sources._cells import as_flat_text, check_names, plain
from headstart.sources._files import destination, reading


@contextlib.contextmanager
def arrow_reading(path: Path, what: str, extra: str) -> Iterator[Any]:
    """Yield pyarrow; turn what it says about a broken file into a DataError."""
    arrow = require("pyarrow", extra)
    with reading(path):
        try:
            yield arrow
        except (arrow.ArrowException, ValueError, TypeError, LookupError, OverflowError) as error:
            raise DataError(f"'{path}' cannot be read as {what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if text.endswith(".") else text + "."


def batch_table(arrow: Any, batch: Any, origin: str) -> Table:
    """Return a record batch as a table of plain cells."""
    names = check_names(batch.schema.names, origin)
    return {name: _cells(arrow, column) for name, column in zip(names, batch.columns, strict=True)}


def _cells(arrow: Any, column: Any) -> list[Any]:
    kinds = arrow.types
    if kinds.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    # Nanoseconds would need pandas.
    if kinds.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(arrow.timestamp("us", kind.tz), safe=False)
    elif kinds.is_duration(kind) and kind.unit == "ns":
        column = column.cast(arrow.duration("us"), safe=False)
    cells: list[Any] = column.to_pylist()
    simple = kinds.is_integer(kind) or kinds.is_boolean(kind) or kinds.is_string(kind) or kinds.is_large_string(kind)
    return cells if simple else [plain(cell) for cell in cells]


@final
class ArrowWriter(TableWriter):
    """Writes chunks as record batches of the first chunk's types.

    Args:
        arrow: the package pyarrow.
        start: opens a pyarrow writer for a schema.
    """

    def __init__(self, arrow: Any, start: Callable[[Any], Any]) -> None:
        self._arrow, self._start = arrow, start
        self._schema: Any = None
        self._sink: Any = None

    def write(self, table: Table) -> None:
        """Append rows.

        Raises:
            DataError: a cell does not fit the type that its column had in the first chunk.
        """
        if self._schema is None:
            self._begin(table)
        elif list(table) != self._schema.names:
            raise DataError(f"A chunk has the columns {listed(table)}; the first had {listed(self._schema.names)}.")
        arrays = [self._array(field, table[field.name]) for field in self._schema]
        self._sink.write_batch(self._arrow.record_batch(arrays, schema=self._schema))

    def _begin(self, table: Table) -> None:
        fields = [(name, self._type([plain(cell) for cell in cells])) for name, cells in table.items()]
        self._schema = self._arrow.schema(fields)
        self._sink = self._start(self._schema)

    def _type(self, cells: list[Any]) -> Any:
        """Return the Arrow type that holds all cells; text where there is none, or nothing to go by."""
        arrow = self._arrow
        try:
            kind = arrow.array(cells).type
        except (arrow.ArrowException, OverflowError):
            return arrow.string()
        if arrow.types.is_null(kind):
            return arrow.string()
        if arrow.types.is_list(kind):
            # Vectors stay numbers; lists of anything else are labels.
            return kind if arrow.types.is_floating(kind.value_type) else arrow.list_(arrow.string())
        return kind

    def _array(self, field: Any, cells: list[Any]) -> Any:
        arrow = self._arrow
        cells = [plain(cell) for cell in cells]
        if arrow.types.is_string(field.type):
            cells = [None if cell is None else _utf8(as_flat_text(cell)) for cell in cells]
        elif arrow.types.is_list(field.type) and arrow.types.is_string(field.type.value_type):
            cells = [[_utf8(as_flat_text(each)) for each in cell] if isinstance(cell, list) else cell for cell in cells]
        try:
            return arrow.array(cells, type=field.type)
        except (arrow.ArrowException, OverflowError) as error:
            raise DataError(
                f"The column '{field.name}' holds {field.type}; one of its cells does not fit: {_first_line(error)}",
                hint="Write a .csv or .jsonl file instead.",
            ) from error

    def abandon(self) -> None:
        """Let go of the file, which is about to be removed; pyarrow would otherwise write to it later."""
        if self._sink is not None:
            with contextlib.suppress(self._arrow.ArrowException, OSError, ValueError):
                self._sink.close()

    def close(self) -> None:
        """Finish the file; without any chunk it has no columns."""
        if self._sink is None:
            self._sink = self._start(self._arrow.schema([]))
        self._sink.close()


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


@contextlib.contextmanager
def arrow_out(reference: Any, extra: str, start: Callable[[BinaryIO, Any], Any]) -> Iterator[ArrowWriter]:
    """Open `reference` for writing Arrow batches atomically; `start` opens a pyarrow writer on a file."""
    arrow = require("pyarrow", extra)
    with atomic_file(destination(reference)) as part, part.open("wb") as file:
        writer = ArrowWriter(arrow, lambda schema: start(file, schema))
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.close()
