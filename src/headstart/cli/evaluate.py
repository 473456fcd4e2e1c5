"""`headstart evaluate`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli import _table
from headstart.cli.main import console

HELP = "judge a fitted model on a labelled table"
EXAMPLE = "Example: headstart evaluate models/tickets new.csv --json"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("bundle", help="the fitted model's folder")
    parser.add_argument("table", help="a table with inputs and right answers")
    parser.add_argument(
        "--target", default="", metavar="COLUMNS", help="targets to judge; all that the table has otherwise"
    )
    parser.add_argument("--out", metavar="FOLDER", help="also write report.json and report.html there")
    _table.options(parser)


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Evaluate, print the report, and return it."""
    from headstart.stages.evaluate import evaluate
    from headstart.stages.report import terminal

    report = evaluate(
        chosen.bundle,
        chosen.table,
        target=chosen.target,
        out=chosen.out,
        options=_table.read_options(chosen),
        progress=console(chosen),
    )
    if not chosen.json:
        print(terminal(report, 80))
    return report
