"""Tables that are already in Python: frames of pandas, polars and Arrow, dicts of columns, lists of records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, final

from headstart.core.errors import DataError, UsageError
from headstart.core.registry import require
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources._arrow import batch_table
from headstart.sources._cells import check_lengths, check_names, plain
from headstart.sources._files import shown


@final
class Frame(Source):
    """A table object; it is recognised by its type's name, so that pandas and polars need not be there.

    A frame's index is not read. Missing values of any sort become None.
    """

    reads = "pandas, polars and Arrow tables, dicts of lists and lists of dicts"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a table object."""
        if isinstance(reference, Mapping):
            return bool(reference) and all(_is_column(cells) for cells in reference.values())
        if isinstance(reference, list):
            return bool(reference) and all(isinstance(record, Mapping) for record in reference)
        return _library(reference) in ("pandas", "polars") or hasattr(reference, "__arrow_c_stream__")

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield the rows.

        Raises:
            DataError: columns differ in length, or have the same name.
        """
        origin = shown(reference)
        if isinstance(reference, list):
            yield from _of_records(reference, rows, origin)
        elif isinstance(reference, Mapping):
            yield from _of_columns(reference, rows, origin)
        elif library := _library(reference):
            yield from _of_frame(
                reference.collect() if hasattr(reference, "collect") else reference, library, rows, origin
            )
        else:
            yield from _of_arrow(reference, rows, origin)

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Raise UsageError: a table in memory cannot be written to."""
        raise UsageError(f"{shown(reference)} cannot be written to.", hint="Give the name of a file.")


def _is_column(cells: Any) -> bool:
    return isinstance(cells, (list, tuple)) or hasattr(cells, "tolist") or hasattr(cells, "to_list")


def _library(reference: Any) -> str:
    """Return `pandas` or `polars` where `reference` is one of their frames, else an empty text."""
    for each in type(reference).__mro__:
        library = each.__module__.partition(".")[0]
        if library in ("pandas", "polars") and each.__name__ in ("DataFrame", "LazyFrame"):
            return library
    return ""


def _of_records(records: list[Mapping[Any, Any]], rows: int, origin: str) -> Iterator[Table]:
    names = dict.fromkeys(key for record in records for key in record)
    check_names(names, origin)
    for start in range(0, len(records), rows):
        some = records[start : start + rows]
        yield {str(name): [plain(record.get(name)) for record in some] for name in names}


def _of_columns(columns: Mapping[Any, Any], rows: int, origin: str) -> Iterator[Table]:
    names = check_names(columns, origin)
    table = dict(zip(names, map(_listed, columns.values()), strict=True))
    check_lengths(table, origin)
    for start in range(0, max(1, len(table[names[0]])), rows):
        yield {name: [plain(cell) for cell in cells[start : start + rows]] for name, cells in table.items()}


def _listed(cells: Any) -> Any:
    """Return a column as Python values."""
    if getattr(getattr(cells, "dtype", None), "kind", "") == "M" and hasattr(cells, "astype"):
        cells = cells.astype("datetime64[us]")  # of nanoseconds numpy makes plain integers
    if getattr(cells, "ndim", 1) > 1:
        return list(cells)  # pictures or other arrays, one for each row
    return cells.to_list() if hasattr(cells, "to_list") else cells.tolist() if hasattr(cells, "tolist") else cells


def _of_frame(frame: Any, library: str, rows: int, origin: str) -> Iterator[Table]:
    names = check_names(frame.columns, origin)
    for start in range(0, max(1, len(frame)), rows):
        part = frame.iloc[start : start + rows] if library == "pandas" else frame.slice(start, rows)
        columns = [part.iloc[:, k] if library == "pandas" else part.to_series(k) for k in range(len(names))]
        yield {name: [plain(cell) for cell in column.to_list()] for name, column in zip(names, columns, strict=True)}


def _of_arrow(stream: Any, rows: int, origin: str) -> Iterator[Table]:
    arrow = require("pyarrow", "arrow")
    reader = arrow.RecordBatchReader.from_stream(stream)
    empty = True
    try:
        for batch in reader:
            for start in range(0, batch.num_rows, rows):
                yield batch_table(arrow, batch.slice(start, rows), origin)
                empty = False
    except arrow.ArrowException as error:
        raise DataError(f"{origin} cannot be read: {error}") from error
    if empty:
        yield batch_table(arrow, reader.schema.empty_table().combine_chunks(), origin)
