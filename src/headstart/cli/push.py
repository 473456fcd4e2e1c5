"""`headstart push`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli.main import console

HELP = "put a fitted model with its model card onto Hugging Face Hub, or into a folder"
EXAMPLE = "Example: headstart push models/tickets hf:me/tickets --private"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("bundle", help="the fitted model's folder")
    parser.add_argument("to", help="hf:owner/name, or a folder")
    parser.add_argument("--private", action="store_true", help="on a hub: only you see it")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Push the bundle, print where it is, and return it."""
    from headstart.stages.push import push

    pushed = push(chosen.bundle, chosen.to, private=chosen.private, progress=console(chosen))
    if not chosen.json:
        print(f"{len(pushed['files'])} files are at {pushed['place']}")
    return pushed
