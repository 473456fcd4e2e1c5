"""Arrow files and streams (Feather version 2 is the same)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, final

from headstart.core.registry import require
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources._arrow import arrow_out, arrow_reading, batch_table
from headstart.sources._files import existing, named, shown

SUFFIXES = (".arrow", ".feather", ".arrows")
FILE_MAGIC = b"ARROW1"


@final
class Arrow(Source):
    """Record batches in Arrow's own layout, mapped from the disk."""

    reads = ".arrow and .feather files"
    writes = ".arrow and .feather files"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a path that ends in .arrow, .arrows or .feather."""
        return named(reference, SUFFIXES)

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield the rows.

        Raises:
            DataError: it is no Arrow file or stream, or a damaged one.
        """
        path = existing(reference)
        ipc = require("pyarrow.ipc", "arrow")
        empty = True
        with arrow_reading(path, "Arrow", "arrow") as arrow, arrow.memory_map(str(path)) as file:
            magic = file.read(len(FILE_MAGIC))
            file.seek(0)
            opened = ipc.open_file(file) if magic == FILE_MAGIC else ipc.open_stream(file)
            for batch in _batches(opened):
                for start in range(0, batch.num_rows, rows):
                    yield batch_table(arrow, batch.slice(start, rows), shown(reference))
                    empty = False
            if empty:
                yield batch_table(arrow, opened.schema.empty_table().combine_chunks(), shown(reference))

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Write columns of the types that the first chunk has, as an Arrow file."""
        ipc = require("pyarrow.ipc", "arrow")

        def start(file: BinaryIO, schema: Any) -> Any:
            return ipc.new_file(file, schema)

        return arrow_out(reference, "arrow", start)


def _batches(opened: Any) -> Iterator[Any]:
    """Yield the record batches of an Arrow file or stream."""
    if hasattr(opened, "get_batch"):
        for number in range(opened.num_record_batches):
            yield opened.get_batch(number)
    else:
        yield from opened
