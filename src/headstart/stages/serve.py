"""Serve: a fitted model behind HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.progress import Console, Progress
from headstart.core.registry import require
from headstart.runtime import Runtime
from headstart.stages.model import Model, open_targets

if TYPE_CHECKING:
    from headstart.server.app import Limits

NEEDED = ("fastapi", "orjson", "prometheus_client", "uvicorn")


def serve(
    model: Model | Runtime | Path | str,
    *,
    name: str = "",
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    drain_seconds: int = 30,
    notice_seconds: float = 0.0,
    access_log: bool = False,
    progress: Progress | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a model until SIGTERM or Ctrl-C; requests that are being answered are finished first.

    Args:
        model: an opened model, or a bundle's path.
        name: what it is called; the bundle's name where empty.
        host: the address to listen on; other than a loopback address means that other machines can ask.
        port: the port to listen on; 0 means any free one.
        limits: how much to take on.
        drain_seconds: how long requests that are being answered may take after the signal.
        notice_seconds: how long the port stays open after SIGTERM while `/health/ready` answers 503, so that a load
            balancer can turn away first.
        access_log: whether to log a line for each request; bodies are never logged.
        progress: where to say the address; standard error by default.
        ready: called with the address once requests are taken.

    Raises:
        MissingExtra: the serving packages are not installed.
        BundleError: the bundle cannot be opened.
        ResourceError: the port is in use or not permitted.
        UsageError: there is no such host or port.
        KeyboardInterrupt: it was stopped by Ctrl-C.
    """
    for package in NEEDED:
        require(package, "serve")
    from headstart.server.app import Limits
    from headstart.server.run import run

    progress = progress or Console()
    if isinstance(model, (str, Path)):
        model = open_targets(model, progress)
    runtime = model if isinstance(model, Runtime) else model.runtime
    run(
        runtime,
        name=name or (runtime.bundle.path.name if runtime.bundle else "model"),
        host=host,
        port=port,
        limits=limits or Limits(),
        drain_seconds=drain_seconds,
        notice_seconds=notice_seconds,
        access_log=access_log,
        progress=progress,
        ready=ready,
    )
