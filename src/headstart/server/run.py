"""Run the app on a port, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import final

import uvicorn

from headstart.core.errors import ResourceError, UsageError
from headstart.core.progress import Console, Progress
from headstart.runtime import Runtime
from headstart.server.app import Limits, Service, create_app

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than a load balancer's usual 60, so that the balancer, which
knows when it sends, is the one to close it."""


def run(
    runtime: Runtime,
    *,
    name: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    drain_seconds: int = 30,
    notice_seconds: float = 0.0,
    access_log: bool = False,
    progress: Progress | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve an opened model until SIGTERM or Ctrl-C; requests that are being answered are finished first.

    Args:
        runtime: the opened model.
        name: what it is called.
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
        ResourceError: the port is in use or not permitted.
        UsageError: there is no such host or port.
        KeyboardInterrupt: it was stopped by Ctrl-C.
    """
    progress = progress or Console()
    listener = _listen(host, port)
    try:
        url = _address(listener)
        app = create_app(runtime, name=name, limits=limits)
        if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            progress.say(f"Warning: {host} can be reached from other machines, and there is no authentication yet.")

        def started() -> None:
            progress.say(f"Serving '{name}' on {url} (schema: {url}/docs). Stop with Ctrl-C.")
            if ready is not None:
                ready(url)

        config = uvicorn.Config(
            app,
            log_level="info" if access_log else "warning",
            access_log=access_log,
            lifespan="on",
            ws="none",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=drain_seconds,
        )
        server = _Server(config, app.state.service, started, notice_seconds)
        server.run(sockets=[listener])
    finally:
        listener.close()
    if server.interrupted:
        raise KeyboardInterrupt


@final
class _Server(uvicorn.Server):
    """Uvicorn's server, which says when it has started and tells the service when it stops."""

    def __init__(
        self, config: uvicorn.Config, service: Service, started: Callable[[], None], notice_seconds: float
    ) -> None:
        super().__init__(config)
        self.service, self.on_started, self.notice_seconds = service, started, notice_seconds
        self.interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self.on_started()

    async def main_loop(self) -> None:
        """Run until a signal, then leave the port open for the time of the notice."""
        await super().main_loop()
        until = time.monotonic() + self.notice_seconds
        while time.monotonic() < until and not self.interrupted:
            await asyncio.sleep(0.05)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop at the first signal; a second Ctrl-C drops requests that are being answered."""
        self.service.draining = True
        self.force_exit = self.interrupted and sig == signal.SIGINT
        self.interrupted = self.interrupted or sig == signal.SIGINT
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address, so that a taken port is known before the model is warm."""
    if not 0 <= port <= 65535:
        raise UsageError(f"There is no port {port}.", allowed="A port is a number from 1 to 65535; 0 takes a free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(
            f"There is no host '{host}' here: {error.strerror}.",
            hint="Try --host 127.0.0.1, or --host 0.0.0.0 for every address of this machine.",
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Only listening makes the port ours: until then another process may bind it, too.
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def _refused(host: str, port: int, error: OSError) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return ResourceError(f"Port {port} on {host} is in use.", hint=f"Try --port {_free_after(host, port)}")
    if error.errno == errno.EACCES:
        return ResourceError(
            f"Port {port} on {host} is not permitted.", allowed="Ports from 1024 on are.", hint="Try --port 8000"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"'{host}' is not an address of this machine.", hint="Try --host 127.0.0.1")
    return ResourceError(f"Port {port} on {host} cannot be opened: {os.strerror(error.errno or 0)}.")


def _free_after(host: str, port: int) -> int:
    """Return the next port that is free, or 0, which takes any."""
    for each in range(port + 1, min(port + 20, 65536)):
        try:
            _listen(host, each).close()
        except ResourceError:
            continue
        return each
    return 0


def _address(listener: socket.socket) -> str:
    """Return the URL at which this machine reaches a listener."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://{host}:{port}" if address.version == 4 else f"http://[{host}]:{port}"
