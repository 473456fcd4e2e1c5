"""`headstart compress`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli import _table
from headstart.cli.main import console
from headstart.core.errors import UsageError

HELP = "make a fitted model smaller and faster; nothing is kept that is not faster, or not shown to answer as well"
EXAMPLE = "Example: headstart compress models/tickets --max-drop 0.5 --out models/tickets-small"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("bundle", help="the fitted model's folder")
    add(
        "--precision",
        metavar="NAMES",
        help="int8, f16 (weights of half width), or an engine with its precision such as 'openvino f32', separated by "
        "commas; with none of these three options all usual forms are tried",
    )
    add("--layers", metavar="NUMBERS", help="how many layers of the text encoder stay, such as 4,3")
    add("--dims", metavar="NUMBERS", help="how many dimensions of the vectors stay, such as 128")
    add("--max-drop", type=float, default=0.5, metavar="POINTS", help="accuracy that may be lost (default: 0.5 points)")
    add("--test", metavar="TABLE", help="judge on this labelled table instead of the rows that were held out")
    add("--source", metavar="TABLE", help="the table that the model was fitted on, where it has moved")
    add("--out", metavar="FOLDER", help="where to write what is chosen (default: BUNDLE-compressed)")
    _table.options(parser)


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Compress, print the table, and return what was measured."""
    from headstart.stages.compress import compress
    from headstart.stages.report.compressed import lines

    found = compress(
        chosen.bundle,
        precision=[each.strip() for each in (chosen.precision or "").split(",") if each.strip()],
        layers=_numbers("--layers", chosen.layers),
        dims=_numbers("--dims", chosen.dims),
        max_drop=chosen.max_drop,
        test=chosen.test,
        source=chosen.source,
        out=chosen.out,
        options=_table.read_options(chosen),
        progress=console(chosen),
    )
    if not chosen.json:
        print("\n".join(lines(found)))
    return found


def _numbers(name: str, given: str | None) -> list[int]:
    parts = [each.strip() for each in (given or "").split(",") if each.strip()]
    if not all(each.isdigit() and int(each) for each in parts):
        raise UsageError(f"{name} is '{given}'.", allowed="Whole numbers from 1, separated by commas.")
    return [int(each) for each in parts]
