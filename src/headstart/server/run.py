"""Run the app on a port, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, final

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from headstart.core.errors import ResourceError, UsageError, listed
from headstart.core.progress import Console, Progress
from headstart.core.threads import core_count, core_reason
from headstart.server.admin import create_admin
from headstart.server.app import create_app
from headstart.server.limits import Limits
from headstart.server.models.folder import Folder
from headstart.server.models.rollout import Opener, Rollout
from headstart.server.service import NONE, Service

if TYPE_CHECKING:
    from headstart.server.rpc.grpc import Port

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than a load balancer's usual 60, so that the balancer, which
knows when it sends, is the one to close it."""
LAST_CALL = 0.5
"""Seconds in which connections that are open when the port closes may still send a request each."""


def run(
    models: Mapping[str, Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    admin_port: int | None = None,
    admin_host: str = "127.0.0.1",
    grpc_port: int | None = None,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    drain_seconds: int = 30,
    notice_seconds: float = 0.0,
    access_log: bool = False,
    progress: Progress | None = None,
    ready: Callable[[str], None] | None = None,
    grpc_ready: Callable[[str], None] | None = None,
    opener: Opener | None = None,
    folder: Folder | None = None,
    app_options: Mapping[str, Any] = NONE,
    server_options: Mapping[str, Any] = NONE,
    admin_guard: Sequence[Middleware] = (),
    grpc_guard: Sequence[Middleware] = (),
    warning: str = "",
) -> None:
    """Serve opened models until SIGTERM or Ctrl-C; requests that are being answered are finished first.

    Args:
        models: opened models by name; see `create_app`.
        host: the address to listen on; other than a loopback address means that other machines can ask.
        port: the port to listen on; 0 means any free one.
        admin_port: the port of the admin API, which loads and unloads models; None means that there is none.
        admin_host: the address of the admin API.
        grpc_port: the port of `host` that speaks gRPC; 0 means any free one, and None that there is none.
        limits: how much to take on.
        drain_seconds: how long requests that are being answered may take after the signal.
        notice_seconds: how long the port stays open after SIGTERM while `/health/ready` answers 503, so that a load
            balancer can turn away first.
        access_log: whether to log a line for each request; bodies are never logged.
        progress: where to say the address; standard error by default.
        ready: called with the address once requests are taken.
        grpc_ready: called before that with `HOST:PORT`, where gRPC is spoken.
        opener: opens what is named when a model is loaded.
        folder: the folder of bundles that is followed.
        app_options: more of `create_app`'s arguments.
        server_options: more of uvicorn's settings, such as certificates.
        admin_guard: what stands before the admin API, the first of it outermost.
        grpc_guard: what stands before gRPC's calls, the first of it outermost.
        warning: what the user is told before it starts; nothing where empty.

    Raises:
        ResourceError: a port is in use or not permitted.
        UsageError: there is no such host or port.
        KeyboardInterrupt: it was stopped by Ctrl-C.
    """
    progress = progress or Console()
    listeners = [_listen(host, port)]
    try:
        background: list[Callable[[Rollout], Any]] = [folder.watch] if folder else []
        if admin_port is not None:
            listeners.append(_listen(admin_host, admin_port))
            background.append(_Admin(listeners[-1], admin_guard).serve)
        if grpc_port is not None:
            listeners.append(_listen(host, grpc_port))
        url = _address(listeners[0])
        app = create_app(models, limits=limits, opener=opener, background=background, **app_options)
        beside = None
        if grpc_port is not None:
            beside = _beside(app, listeners[-1], guard=grpc_guard, options=server_options, drain_seconds=drain_seconds)
        if warning:
            progress.say(warning)

        def started() -> None:
            _say(progress, app.state.service, url, _address(listeners[1]) if admin_port is not None else "", beside)
            if beside is not None and grpc_ready is not None:
                grpc_ready(beside.address)
            if ready is not None:
                ready(url)

        config = uvicorn.Config(app, **(_settings(access_log, drain_seconds) | dict(server_options)))
        server = _Server(config, app.state.service, started, notice_seconds, beside)
        server.run(sockets=listeners[:1])
    finally:
        for each in listeners:
            each.close()
    if server.interrupted:
        raise KeyboardInterrupt


def _settings(access_log: bool, drain_seconds: int) -> dict[str, Any]:
    return {
        "log_level": "info" if access_log else "warning",
        "access_log": access_log,
        "lifespan": "on",
        "ws": "none",
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": drain_seconds,
    }


def _beside(app: FastAPI, listener: socket.socket, **more: Any) -> Port:
    """Return the port that speaks gRPC; whoever does not ask for it needs none of its packages."""
    from headstart.server.rpc.grpc import Port

    return Port(app, listener, **more)


def _say(progress: Progress, service: Service, url: str, admin: str, beside: Port | None) -> None:
    names = service.shelf.names()
    shown = f"'{names[0]}'" if len(names) == 1 else f"{len(names)} models ({listed(names, 6)})" if names else "no model"
    progress.say(f"Serving {shown} on {url} (schema: {url}/docs). Stop with Ctrl-C.")
    cores = core_count()
    progress.say(f"The model runs with {cores} thread{'s' if cores > 1 else ''}: {core_reason()}.")
    if admin:
        progress.say(f"Models are loaded with: headstart rollout load NAME PATH --admin {admin}")
    if beside is not None:
        progress.say(f"The Open Inference Protocol is spoken over gRPC on {beside.address}.")


@final
class _Admin:
    """The admin API's server, which runs in the event loop of the main one."""

    def __init__(self, listener: socket.socket, guard: Sequence[Middleware]) -> None:
        self.listener, self.guard = listener, guard

    async def serve(self, rollout: Rollout) -> None:
        """Serve until cancelled."""
        app = create_admin(rollout)
        for layer in reversed(self.guard):
            app.add_middleware(layer.cls, *layer.args, **layer.kwargs)
        config = uvicorn.Config(app, log_level="warning", lifespan="off", ws="none")
        server = _Unsignalled(config)
        try:
            await server.serve(sockets=[self.listener])
        finally:
            for each in server.servers if server.started else []:
                each.close()


@final
class _Unsignalled(uvicorn.Server):
    """A server that leaves signals to the main one."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@final
class _Server(uvicorn.Server):
    """Uvicorn's server, which says when it has started and tells the service when it stops."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        started: Callable[[], None],
        notice_seconds: float,
        beside: Port | None = None,
    ) -> None:
        super().__init__(config)
        self.beside = beside
        self.service, self.on_started, self.notice_seconds = service, started, notice_seconds
        self.interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            if self.beside is not None:
                await self.beside.open()
            self.on_started()

    async def main_loop(self) -> None:
        """Run until a signal, leave the port open for the time of the notice, and then let open connections end."""
        await super().main_loop()
        until = time.monotonic() + self.notice_seconds
        while time.monotonic() < until and not self.interrupted:
            await asyncio.sleep(0.05)
        for each in self.servers:
            each.close()
        if self.beside is not None:
            self.beside.close()
        # A client may be sending just now on a connection that looks idle: it is answered, and told to send no more.
        until = time.monotonic() + LAST_CALL
        while self.server_state.connections and time.monotonic() < until and not self.interrupted:
            await asyncio.sleep(0.02)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what gRPC is answering end, then what HTTP is; both within the seconds that they have together."""
        if self.beside is not None:
            started = time.monotonic()
            while not self.beside.closed and not self.force_exit:
                await asyncio.sleep(0.02)
            left = (self.config.timeout_graceful_shutdown or 0) - (time.monotonic() - started)
            self.config.timeout_graceful_shutdown = max(round(left), 1)
        await super().shutdown(sockets)

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
