"""`headstart serve`."""

from __future__ import annotations

import argparse
import json

from headstart.cli import _limits, _protection
from headstart.cli.main import console
from headstart.core.offline import go_offline

HELP = "answer over HTTP (REST) and gRPC, on this machine only unless told otherwise"
EXAMPLE = "Examples: headstart serve models/tickets --port 8000; headstart serve models/* --admin-port 8001"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "model",
        nargs="*",
        help="fitted models' folders, folders of such, or pretrained models' references; NAME=… gives another name",
    )
    parser.add_argument("--model-folder", metavar="DIR", help="serve the bundles in a folder, and follow its changes")
    parser.add_argument("--task", default="", metavar="NAME", help="what references are opened for, such as generate")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (default: 8000)")
    parser.add_argument(
        "--admin-port", type=int, metavar="PORT", help="port of this machine on which headstart rollout loads models"
    )
    parser.add_argument(
        "--grpc-port", type=int, metavar="PORT", help="speak the Open Inference Protocol over gRPC, too, on this port"
    )
    parser.add_argument("--drain-seconds", type=int, default=30, metavar="S", help="time to finish after SIGTERM")
    parser.add_argument(
        "--notice-seconds",
        type=float,
        default=0.0,
        metavar="S",
        help="how long the port stays open after SIGTERM, while /health/ready answers 503",
    )
    _limits.options(parser)
    _protection.options(parser)
    parser.add_argument("--offline", action="store_true", help="use what is on this machine; fetch nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(chosen: argparse.Namespace) -> None:
    """Serve until interrupted; with --json the address is the one document."""
    from headstart.core.registry import require
    from headstart.stages.serve import NEEDED, serve

    for package in NEEDED:
        require(package, "serve")
    spoken: dict[str, str] = {}

    def ready(url: str) -> None:
        if chosen.json:
            print(json.dumps({"url": url, "models": chosen.model, **spoken}), flush=True)

    if chosen.offline:
        go_offline()
    serve(
        chosen.model,
        task=chosen.task,
        model_folder=chosen.model_folder or "",
        host=chosen.host,
        port=chosen.port,
        admin_port=chosen.admin_port,
        grpc_port=chosen.grpc_port,
        limits=_limits.limits(chosen),
        drain_seconds=chosen.drain_seconds,
        notice_seconds=chosen.notice_seconds,
        progress=console(chosen),
        ready=ready,
        grpc_ready=lambda address: spoken.update(grpc=address),
        protection=_protection.protection(chosen),
        **_protection.ledger(chosen),
    )
