"""`headstart compress`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli import _table
from headstart.cli._lists import Joined
from headstart.cli.main import console
from headstart.core.errors import UsageError
from headstart.core.recipe import seconds

HELP = "make a fitted model smaller and faster; nothing is kept that is not faster, or not shown to answer as well"
EXAMPLE = "Example: headstart compress models/tickets --max-drop 0.5 --out models/tickets-small"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("bundle", help="the fitted model's folder")
    add(
        "--precision",
        action=Joined,
        metavar="NAMES",
        help="int8, f16 (weights of half width), int4 (weights of four bits, of a network that writes), or an engine "
        "with its precision such as 'openvino f32', separated by commas; with none of these options that name a form "
        "all usual ones are tried; a network that answers by itself has these forms alone",
    )
    add("--layers", action=Joined, metavar="NUMBERS", help="how many layers of the text encoder stay, such as 4,3")
    add("--dims", action=Joined, metavar="NUMBERS", help="how many dimensions of the vectors stay, such as 128")
    add(
        "--prune",
        action=Joined,
        metavar="SHARES",
        help="shares of the text encoder's feed-forward channels that are left out of every layer, or of the channels "
        "between the convolutions of a network of pictures, such as 0.25,0.5; the others are fitted to do their work, "
        "without PyTorch",
    )
    add(
        "--heads",
        action=Joined,
        metavar="SHARES",
        help="shares of the text encoder's attention heads that are left out of every layer, such as 0.25, beside "
        "--prune or alone",
    )
    add(
        "--zero",
        action=Joined,
        metavar="SHARES",
        help="shares of the weights that are set to zero one by one, the smallest of each matrix, such as 0.5: it is "
        "told what that costs and how small they are zipped; as no engine here is faster for it, it is never kept",
    )
    add(
        "--distill",
        action=Joined,
        metavar="NUMBERS",
        help="layers of a student that learns the labels and a tuned teacher's answers, such as 3 (needs PyTorch)",
    )
    add(
        "--budget",
        metavar="TIME",
        help="such as 5m: how long a form may be trained (needs PyTorch); pruned encoders then also learn to give the "
        "vectors of the whole one, and with no form named a student is tried (default: 10m for --distill, else none)",
    )
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
        precision=_parts(chosen.precision),
        layers=_numbers("--layers", chosen.layers),
        dims=_numbers("--dims", chosen.dims),
        prune=_shares("--prune", chosen.prune),
        heads=_shares("--heads", chosen.heads),
        zero=_shares("--zero", chosen.zero),
        distill=_numbers("--distill", chosen.distill),
        budget=seconds(chosen.budget) if chosen.budget else 0.0,
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


def _parts(given: str | None) -> list[str]:
    return [each.strip() for each in (given or "").split(",") if each.strip()]


def _shares(name: str, given: str | None) -> list[float]:
    try:
        return [float(each) for each in _parts(given)]
    except ValueError:
        raise UsageError(f"{name} is '{given}'.", allowed="Shares between 0 and 1, such as 0.25,0.5.") from None


def _numbers(name: str, given: str | None) -> list[int]:
    parts = _parts(given)
    if not all(each.isdigit() and int(each) for each in parts):
        raise UsageError(f"{name} is '{given}'.", allowed="Whole numbers from 1, separated by commas.")
    return [int(each) for each in parts]
