"""Options that every command that reads a table has."""

from __future__ import annotations

import argparse

from headstart.core.source import ReadOptions


def options(parser: argparse.ArgumentParser) -> None:
    """Add --encoding, --delimiter and --quiet."""
    parser.add_argument("--encoding", help="text encoding of the table; found out where it is not given")
    parser.add_argument("--delimiter", help="character between cells, such as ';'; found out where it is not given")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def read_options(chosen: argparse.Namespace) -> ReadOptions:
    """Return what the user said about how to read a table."""
    delimiter = {"\\t": "\t", "tab": "\t"}.get(chosen.delimiter, chosen.delimiter)
    return ReadOptions(encoding=chosen.encoding, delimiter=delimiter)
