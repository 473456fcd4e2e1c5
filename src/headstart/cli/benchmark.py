"""`headstart benchmark`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from headstart.cli._lists import Joined
from headstart.cli.main import console
from headstart.core.errors import UsageError

HELP = "measure how fast a fitted model answers on this machine; prints Markdown that can be pasted"
EXAMPLE = "Example: headstart benchmark models/tickets --out benchmark.md"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("bundle", help="the fitted model's folder")
    parser.add_argument(
        "--batch", action=Joined, metavar="NUMBERS", help="rows at once, separated by commas (default: 1,8,32,128)"
    )
    parser.add_argument("--out", metavar="FILE", help="also write the Markdown there")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the report, and return the figures."""
    from headstart.core.files import write_text
    from headstart.stages.benchmark import BATCHES, benchmark
    from headstart.stages.report.benchmark import markdown

    parts = [each.strip() for each in (chosen.batch or "").split(",") if each.strip()]
    if not all(each.isdigit() for each in parts):
        raise UsageError(f"--batch is '{chosen.batch}'.", allowed="Whole numbers from 1, separated by commas.")
    found = benchmark(chosen.bundle, batches=[int(each) for each in parts] or BATCHES, progress=console(chosen))
    text = markdown(found)
    if chosen.out:
        write_text(Path(chosen.out), text)
    if not chosen.json:
        print(text, end="")
    return found
