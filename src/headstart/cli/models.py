"""`headstart models`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli.main import console

HELP = "list pretrained models, or fetch one with --pull"
EXAMPLE = "Example: headstart models minilm"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("query", nargs="?", default="", help="part of a name")
    parser.add_argument("--hub", default="", help="only this hub")
    parser.add_argument("--pull", metavar="REF", help="fetch a model, so that it can be used without a network")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(chosen: argparse.Namespace) -> Any:
    """Print the models found, and return them."""
    from headstart.stages.models import models, pull

    found = [pull(chosen.pull, console(chosen))] if chosen.pull else models(chosen.query, chosen.hub)
    if not chosen.json:
        if not found:
            print("No model's name contains that.")
        for each in found:
            cached = "here" if each["cached"] else "to fetch"
            size = f"{each['size'] / 1e6:.0f} MB"
            about = f"{each['modality']:<6} {each['width']:>5} wide  {size:>7}  {each['licence']:<11} {cached}"
            print(f"{each['reference']:<34} {about}")
    return found
