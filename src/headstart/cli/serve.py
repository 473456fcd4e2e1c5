"""`headstart serve`."""

from __future__ import annotations

import argparse
import json

from headstart.cli.main import console

HELP = "answer over HTTP (REST), on this machine only unless told otherwise"
EXAMPLE = "Example: headstart serve models/tickets --port 8000"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("bundle", help="the fitted model's folder")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (default: 8000)")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(chosen: argparse.Namespace) -> None:
    """Serve until interrupted; with --json the address is the one document."""
    from headstart.stages.serve import serve

    def ready(url: str) -> None:
        if chosen.json:
            print(json.dumps({"url": url, "bundle": chosen.bundle}), flush=True)

    serve(chosen.bundle, host=chosen.host, port=chosen.port, progress=console(chosen), ready=ready)
