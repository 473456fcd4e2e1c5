"""`headstart models`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from headstart.cli.main import console
from headstart.core.errors import UsageError

HELP = "find pretrained models; pull, rm and du fetch, remove and list those on this machine"
EXAMPLE = (
    "Examples: headstart models minilm; headstart models resnet --modality image --max-params 30M "
    "--license permissive; headstart models pull hf:owner/name; headstart models rm hf:owner/name; headstart models du"
)
HEADINGS = ("model", "reads", "width", "weights", "licence", "size", "accuracy", "")
RIGHT = ("width", "weights", "size", "accuracy")
NONE = "Models that do not tell their weights or licence fit no filter by them; search for a name without filters."
LONGEST = 48
"""Characters of a name that are shown on a terminal."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("query", nargs="*", help="part of a name; or: pull REF, rm REF, du; rm takes 'embeddings' too")
    parser.add_argument("--modality", default="", metavar="NAME", help="only what reads text, image or audio")
    parser.add_argument("--hub", default="", metavar="NAME", help="only this hub")
    parser.add_argument("--max-params", default="", metavar="N", help="at most so many weights, such as 30M")
    parser.add_argument("--license", default="", metavar="NAME", help="'permissive', or SPDX names with commas between")
    parser.add_argument("--limit", type=int, default=30, metavar="N", help="at most so many (30); 0 shows all")
    parser.add_argument("--offline", action="store_true", help="only what is on this machine; open no socket")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="pull: also models that bring code, after listing its files"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(chosen: argparse.Namespace) -> Any:
    """Print the models found, fetched, removed or held, and return them."""
    from headstart.core import offline, trust
    from headstart.stages import models

    if chosen.offline:
        offline.go_offline()
    if chosen.trust_remote_code:
        trust.trust_remote_code()
    verb, references = (chosen.query[0], chosen.query[1:]) if chosen.query else ("", [])
    if verb == "du":
        return _print_held(models.held(), models.kept(), chosen.json)
    if verb in ("pull", "rm"):
        if not references:
            raise UsageError(f"'headstart models {verb}' needs a model.", hint=f"headstart models {verb} hub:name")
        if verb == "pull":
            return _print_pulled([models.pull(each, console(chosen)) for each in references], chosen.json)
        return _print_removed([models.remove(each) for each in references], chosen.json)
    found = models.models(
        " ".join(chosen.query),
        chosen.hub,
        modality=chosen.modality,
        max_params=chosen.max_params,
        license=chosen.license,
        limit=chosen.limit,
        progress=console(chosen),
    )
    if not chosen.json:
        _print_table(found, chosen.limit, bool(chosen.max_params or chosen.license))
    return found


def _print_table(found: Sequence[dict[str, Any]], limit: int, filtered: bool) -> None:
    if not found:
        print("No model fits that.")
        if filtered:
            print(NONE, file=sys.stderr)
        return
    rows = [HEADINGS, *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        cells = [
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(HEADINGS, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())
    if limit and len(found) == limit:
        print(f"The first {limit}; --limit 0 shows all.", file=sys.stderr)


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    name = each["reference"]
    room = max(LONGEST, shutil.get_terminal_size().columns - 64)
    if sys.stdout.isatty() and len(name) > room:
        name = f"{name[: room - 1]}…"
    return (
        name,
        each["modality"],
        str(each["width"] or ""),
        short(each["parameters"]),
        each["licence"] or "?",
        f"{each['size'] / 1e6:,.{0 if each['size'] > 1e7 else 1}f} MB" if each["size"] else "",
        f"{each['accuracy']:.1f}%" if each["accuracy"] else "",
        "here" if each["cached"] else "",
    )


def short(count: int) -> str:
    """Return a number of weights in few characters.

    >>> short(22_713_728), short(0), short(7_000_000_000)
    ('22.7M', '', '7.0B')
    """
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count or "")


def _print_held(found: list[dict[str, Any]], kept: list[dict[str, Any]], silent: bool) -> Any:
    from headstart.stages.models import total

    if not silent:
        for each in found:
            print(f"{each['size'] / 1e6:>10,.1f} MB  {each['reference']}\n{'':>15}{each['place']}")
        print(f"{total(found) / 1e6:>10,.1f} MB  {len(found)} models in all")
        for each in kept:
            print(f"{each['size'] / 1e6:>10,.1f} MB  {each['name']}: {each['what']}\n{'':>15}{each['place']}")
    return {"models": found, "size": total(found), "kept": kept}


def _print_pulled(found: list[dict[str, Any]], silent: bool) -> Any:
    if not silent:
        for each in found:
            print(f"{each['reference']} ({each['size'] / 1e6:,.1f} MB) is in {each['place']}")
    return found


def _print_removed(found: list[dict[str, Any]], silent: bool) -> Any:
    if not silent:
        for each in found:
            print(f"{each['reference']} is removed; {each['freed'] / 1e6:,.1f} MB are free again")
    return found
