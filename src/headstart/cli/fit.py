"""`headstart fit`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli import _table
from headstart.cli.main import console
from headstart.core.errors import UsageError
from headstart.core.recipe import seconds

HELP = "adapt a pretrained model to a table and write a bundle with an honest report"
EXAMPLE = "Example: headstart fit tickets.csv --target department,priority --out models/tickets"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add(
        "table",
        help="a CSV, TSV, JSONL, Parquet or Arrow file, a folder of text files, or DATABASE_URL::TABLE_OR_QUERY",
    )
    add("--target", default="", metavar="COLUMNS", help="columns to predict, separated by commas; inferred otherwise")
    add("--input", default="", metavar="COLUMNS", help="columns to predict from; inferred otherwise")
    add("--test", metavar="TABLE", help="judge on this table instead of held-out rows")
    add(
        "--task",
        action="append",
        default=[],
        metavar="COLUMN=TASK",
        help="classify, tag or regress instead of the inferred task",
    )
    add("--backbone", default="auto", metavar="REF", help="hub:name, such as local:path/to/folder (default: auto)")
    add("--method", default="auto", help="auto, probe or scratch (default: auto, the better one on held-out rows)")
    add("--budget", default="0", metavar="TIME", help="such as 60s or 10m; no limit otherwise")
    add("--seed", type=int, default=0, help="makes the result repeatable (default: 0)")
    add(
        "--precision-target",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="share of right answers that automated rows must reach (default: 0.95)",
    )
    add("--test-share", type=float, default=0.2, metavar="SHARE", help="share of rows to hold out (default: 0.2)")
    add(
        "--hourly-price",
        type=float,
        default=0.10,
        metavar="PRICE",
        help="price of an hour of this machine, for the cost per 1,000 predictions (default: 0.10)",
    )
    add("--out", metavar="FOLDER", help="where to write the bundle (default: models/NAME_OF_TABLE)")
    add("--portable", action="store_true", help="carry the backbone inside the bundle")
    _table.options(parser)


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Fit, print the report, and return it."""
    from headstart.stages.fit import fit
    from headstart.stages.report import terminal

    model = fit(
        chosen.table,
        target=chosen.target,
        input=chosen.input,
        test=chosen.test,
        task=_tasks(chosen.task),
        backbone=chosen.backbone,
        method=chosen.method,
        budget=seconds(chosen.budget),
        seed=chosen.seed,
        precision_target=chosen.precision_target,
        test_share=chosen.test_share,
        hourly_price=chosen.hourly_price,
        out=chosen.out,
        portable=chosen.portable,
        options=_table.read_options(chosen),
        progress=console(chosen),
    )
    if not chosen.json:
        print(terminal(dict(model.report), 80))
        print(f'\nNext:  headstart predict {model.path} "a text"\n       headstart serve {model.path}')
    return dict(model.report)


def _tasks(given: list[str]) -> dict[str, str]:
    for each in given:
        if "=" not in each:
            raise UsageError(f"--task {each} names no task.", allowed="Write --task COLUMN=TASK.")
    return dict(each.rsplit("=", 1) for each in given)
