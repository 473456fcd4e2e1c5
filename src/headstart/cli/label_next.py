"""`headstart label-next`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from headstart.cli import _table
from headstart.cli.main import console
from headstart.core.offline import go_offline

HELP = "say which rows of an unlabelled table a person should label next"
EXAMPLE = "Example: headstart label-next models/tickets unlabelled.csv --count 100 -o next.csv"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("bundle", help="the fitted model's folder")
    parser.add_argument("table", help="a table of the model's inputs; rows that have their labels already are left out")
    parser.add_argument("--count", type=int, default=100, metavar="ROWS", help="how many rows (default: 100)")
    parser.add_argument("-o", "--out", metavar="FILE", help="write them here: .csv, .jsonl, .parquet, .arrow or SQL")
    parser.add_argument("--offline", action="store_true", help="use what is on this machine; open no socket")
    _table.options(parser)


def run(chosen: argparse.Namespace) -> Any:
    """Choose rows, and print or write them."""
    from headstart.core.dataset import table_rows
    from headstart.stages.label_next import label_next

    if chosen.offline:
        go_offline()
    options = _table.read_options(chosen)
    found = label_next(
        chosen.bundle, chosen.table, count=chosen.count, out=chosen.out, options=options, progress=console(chosen)
    )
    if not chosen.out:
        return _table.print_rows([found], chosen.json)
    rows = table_rows(found)
    if not chosen.json:
        print(f"{rows:,} rows to label: {chosen.out}", file=sys.stderr)
    return {"rows": rows, "out": chosen.out}
