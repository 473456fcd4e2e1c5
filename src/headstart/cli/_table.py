"""Options that every command that reads a table has."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

from headstart.core.source import ReadOptions, Table


def options(parser: argparse.ArgumentParser) -> None:
    """Add --encoding, --delimiter and --quiet."""
    parser.add_argument("--encoding", help="text encoding of the table; found out where it is not given")
    parser.add_argument("--delimiter", help="character between cells, such as ';'; found out where it is not given")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def read_options(chosen: argparse.Namespace) -> ReadOptions:
    """Return what the user said about how to read a table."""
    delimiter = {"\\t": "\t", "tab": "\t"}.get(chosen.delimiter, chosen.delimiter)
    return ReadOptions(encoding=chosen.encoding, delimiter=delimiter)


def print_rows(chunks: Iterable[Table], as_json: bool) -> None:
    """Print each row as JSON, one a line, as soon as its chunk is there; as one array with `as_json`."""
    first = True
    for table in chunks:
        for cells in zip(*table.values(), strict=True):
            print(("[\n" if first else ",\n") if as_json else "", end="")
            record = json.dumps(dict(zip(table, cells, strict=True)), ensure_ascii=False, default=_shown)
            print(record, end="" if as_json else "\n")
            first = False
    if as_json:
        print("[]" if first else "\n]")


def _shown(cell: Any) -> str:
    return f"{len(cell):,} bytes" if isinstance(cell, bytes) else str(cell)
