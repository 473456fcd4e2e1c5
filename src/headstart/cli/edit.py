"""`headstart edit`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from headstart.cli.main import console

HELP = "change a network's architecture as a TOML file says, and write it where fit takes it as a backbone"
EXAMPLE = "Example: headstart edit short_bert.toml"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("file", help="TOML: backbone, out, and any of weights, tokens, layers, channels and size")
    parser.add_argument("--offline", action="store_true", help="use what is on this machine; open no socket")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Write the edited network, print how to use it, and return where it is."""
    from headstart.core import offline
    from headstart.stages.edit import edit_file

    if chosen.offline:
        offline.go_offline()
    made = edit_file(chosen.file, console(chosen))
    if not chosen.json:
        weights = f" --weights {made.weights}" if made.weights else ""
        print(f"{made.parameters:,} weights. Next: headstart fit TABLE --backbone {made.backbone}{weights}")
    return asdict(made)
