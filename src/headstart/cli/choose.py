"""`headstart choose`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli import _table
from headstart.cli._lists import Joined
from headstart.cli.main import console
from headstart.core.errors import UsageError
from headstart.core.offline import go_offline

HELP = "race pretrained models on your data, and say which one to fit"
EXAMPLE = "Example: headstart choose tickets.csv --target department --candidates builtin:all-MiniLM-L6-v2,hf:NAME"
UNITS = {"K": 1e3, "M": 1e6, "G": 1e9}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("table", help="what `headstart fit` would be given; at most 2,000 of its rows are used")
    add("--target", action=Joined, default="", metavar="COLUMNS", help="columns to predict; inferred otherwise")
    add("--input", action=Joined, default="", metavar="COLUMNS", help="columns to predict from; inferred otherwise")
    add("--group", default="", metavar="COLUMN", help="rows of one value stay on one side of every split")
    add(
        "--candidates",
        action=Joined,
        default="",
        metavar="REFS",
        help="models to race, separated by commas; those here otherwise",
    )
    add("--max-latency", type=float, default=0.0, metavar="MS", help="milliseconds that one row may take")
    add("--max-size", default="0", metavar="BYTES", help="bytes that the weights may have, such as 100M")
    add("--license", dest="licence", default="", metavar="NAME", help="permissive, or part of a licence's name")
    add("--seed", type=int, default=0, help="makes the result repeatable")
    add("--offline", action="store_true", help="use what is on this machine; open no socket")
    _table.options(parser)


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Race, print the table, and return it."""
    from headstart.stages.choose import choose

    if chosen.offline:
        go_offline()
    found = choose(
        chosen.table,
        target=chosen.target,
        input=chosen.input,
        group=chosen.group,
        candidates=chosen.candidates,
        max_latency=chosen.max_latency,
        max_size=_bytes(chosen.max_size),
        licence=chosen.licence,
        seed=chosen.seed,
        options=_table.read_options(chosen),
        progress=console(chosen),
    )
    if not chosen.json:
        _print(found)
    return found


def _bytes(text: str) -> int:
    number, unit = (text[:-1], UNITS[text[-1].upper()]) if text[-1:].upper() in UNITS else (text, 1.0)
    try:
        return int(float(number) * unit)
    except ValueError as error:
        raise UsageError(
            f"--max-size {text} is not a size.", allowed="Write bytes, or such as 100M or 1.5G."
        ) from error


def _print(found: dict[str, Any]) -> None:
    width = max(len(each["reference"]) for each in found["race"])
    print(f"{'model':<{width}}   score [95 %]          kNN   ms/row     size  licence")
    for each in found["race"]:
        if not each["interval"]:
            print(f"{each['reference']:<{width}}   not tried: {each['note']}")
            continue
        low, high = each["interval"]
        near = f"{each['neighbours']:.1%}" if each["neighbours"] is not None else ""
        cost = f"{each['milliseconds']:.1f}" if each["milliseconds"] else ""
        size = f"{each['size'] / 1e6:.0f} MB" if each["size"] else ""
        mark = "*" if each["chosen"] else " "
        print(
            f"{each['reference']:<{width}} {mark} {each['score']:6.1%} [{low:.1%}, {high:.1%}]  {near:>6}  {cost:>6}  "
            f"{size:>7}  {each['licence']} {'(' + each['note'] + ')' if each['note'] else ''}".rstrip()
        )
    print(f"\n{found['sentence']} ({found['rows']:,} rows)")
