"""`headstart show`."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "say what a bundle is: inputs, targets, backbone, sizes"
EXAMPLE = "Example: headstart show models/tickets"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("bundle", help="the fitted model's folder")


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Print what the bundle is, and return it."""
    from headstart.stages.show import show

    shown = show(chosen.bundle)
    if not chosen.json:
        print(f"{shown['bundle']}  (format {shown['format']}, headstart {shown['headstart']}, {shown['created']})")
        for name, columns in shown["inputs"].items():
            print(f"  reads     {name}: {', '.join(columns)}")
        for name, target in shown["targets"].items():
            labels = f", {len(target['labels'])} labels" if target["labels"] else ""
            print(f"  predicts  {name}: {target['task']}{labels}")
        for backbone in shown["backbones"].values():
            where = "inside the bundle" if backbone["portable"] else f"referenced, {backbone['size'] / 1e6:.0f} MB"
            print(f"  backbone  {backbone['reference']} ({where})")
        heads = f", of which heads {shown['heads_bytes'] / 1e6:.2f} MB" if shown["heads_bytes"] else ""
        print(f"  size      {shown['bytes'] / 1e6:.2f} MB{heads}")
        if shown["verdict"]:
            print(f"  verdict   {shown['verdict']}")
    return shown
