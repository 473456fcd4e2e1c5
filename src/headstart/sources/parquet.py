"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, final

from headstart.core.registry import require
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources._arrow import arrow_out, arrow_reading, batch_table
from headstart.sources._files import existing, named, shown

SUFFIXES = (".parquet", ".pq")


@final
class Parquet(Source):
    """Typed columns, read one row group's pages at a time."""

    reads = ".parquet files"
    writes = ".parquet files"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a path that ends in .parquet or .pq."""
        return named(reference, SUFFIXES)

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield the rows.

        Raises:
            DataError: it is no Parquet file, or a damaged one.
        """
        path = existing(reference)
        parquet = require("pyarrow.parquet", "parquet")
        empty = True
        with arrow_reading(path, "Parquet", "parquet") as arrow, parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield batch_table(arrow, batch, shown(reference))
                empty = False
            if empty:
                yield batch_table(arrow, file.schema_arrow.empty_table().combine_chunks(), shown(reference))

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Write columns of the types that the first chunk has."""
        parquet = require("pyarrow.parquet", "parquet")

        def start(file: BinaryIO, schema: Any) -> Any:
            return parquet.ParquetWriter(file, schema)

        return arrow_out(reference, "parquet", start)
