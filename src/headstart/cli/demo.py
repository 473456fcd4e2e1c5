"""`headstart demo`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli.main import console

HELP = "fit on a sample ticket table, serve it, ask it one question, and say what to type next"
EXAMPLE = "Example: headstart demo"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--out", default="models/demo", metavar="FOLDER", help="where to write the bundle (default: models/demo)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Run the demo and print it."""
    from headstart.stages.demo import demo

    return demo(out=chosen.out, progress=console(chosen), say=(lambda line: None) if chosen.json else print)
