"""The port: takes calls from gRPC's server and hands them, as requests, to the layers that HTTP passes, too."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import unquote

import orjson
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Scope

from headstart.core.errors import ResourceError
from headstart.core.registry import require
from headstart.server.app import Watched
from headstart.server.errors import CLIENT_GONE, Errors
from headstart.server.rpc.calls import Calls
from headstart.server.service import TIMEOUT, Service

CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    431: "RESOURCE_EXHAUSTED",
    CLIENT_GONE: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""gRPC's codes by HTTP status; of others, those from 500 on are INTERNAL, and what is below INVALID_ARGUMENT."""
RETRY, PUSHBACK = "retry-after", "grpc-retry-pushback-ms"
"""When to come again: in seconds, as over HTTP, and in the milliseconds by which gRPC's clients retry by themselves."""
ROOM = 100_000
"""Bytes above the longest body of a request that a message may have, so that the refusal can say why."""


@final
@dataclass(frozen=True)
class _Route:
    """What stands in a scope as the route, so that measures and logs have its path."""

    path: str


@final
class Port:
    """A port that speaks gRPC, in the event loop of the server over HTTP.

    Args:
        app: the server's app.
        held: a socket that listens at the port's address, so that nobody else takes it before this one opens.
        guard: the layers before the calls, the outermost first.
        options: uvicorn's, of which the files for TLS are taken.
        drain_seconds: how long calls that are being answered may take after `close`.

    Attributes:
        address: `HOST:PORT`, as clients dial it.
    """

    def __init__(
        self,
        app: FastAPI,
        held: socket.socket,
        *,
        guard: Sequence[Middleware] = (),
        options: Mapping[str, Any],
        drain_seconds: float,
    ) -> None:
        service: Service = app.state.service
        errors = Errors()
        self._grpc, self._aio = require("grpc", "grpc"), require("grpc.aio", "grpc")
        self._app, self._held, self._drain_seconds = app, held, drain_seconds
        self._cert, self._key = options.get("ssl_certfile"), options.get("ssl_keyfile")
        self._most = service.limits.body_bytes + ROOM
        self._calls = Calls(service, errors)
        layers: ASGIApp = self._calls
        for each in reversed(guard):
            layers = each.cls(layers, *each.args, **each.kwargs)
        self._layers = Watched(layers, service, errors)
        host, port = held.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server: Any = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take calls from now on.

        Raises:
            ResourceError: another program has taken the port meanwhile.
        """
        self._server = self._aio.server(
            options=[
                # Two servers on one port would share its calls without knowing of each other.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", self._most),
                # Compressed messages are refused, as over HTTP: a small one could become a very large one.
                ("grpc.compression_enabled_algorithms_bitset", 1),
            ]
        )
        handlers: dict[str, dict[str, Any]] = {}
        for path in self._calls.known:
            _, service, call = path.split("/")
            handler = self._grpc.unary_unary_rpc_method_handler(self._handler(path))
            handlers.setdefault(service, {})[call] = handler
        self._server.add_generic_rpc_handlers(
            [self._grpc.method_handlers_generic_handler(name, each) for name, each in handlers.items()]
        )
        self._held.close()
        try:
            if self._cert:
                chain, key = Path(self._cert).read_bytes(), Path(self._key or self._cert).read_bytes()
                secret = self._grpc.ssl_server_credentials([(key, chain)])
                self._server.add_secure_port(self.address, secret)
            else:
                self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise ResourceError(f"The port at {self.address} cannot be opened for gRPC: {error}.") from error
        await self._server.start()

    def close(self) -> None:
        """Take no more calls; those that are being answered may finish."""
        if self._server is not None and self._closing is None:
            self._closing = asyncio.ensure_future(self._server.stop(self._drain_seconds))

    @property
    def closed(self) -> bool:
        """Whether all calls have been answered or cut off."""
        return self._server is None or (self._closing is not None and self._closing.done())

    def _handler(self, path: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def handle(body: bytes, context: Any) -> bytes:
            return await self._answered(path, body, context)

        return handle

    async def _answered(self, path: str, body: bytes, context: Any) -> bytes:
        coming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if not coming:
                # Where the client leaves, this call's task is cancelled.
                await asyncio.get_running_loop().create_future()
            return coming.pop()

        async def send(message: Message) -> None:
            sent.append(message)

        await self._layers(self._scope(path, context), receive, send)
        answer = b"".join(each.get("body", b"") for each in sent)
        status, trailer = sent[0]["status"], _trailer(sent[0]["headers"])
        if status == 200:
            context.set_trailing_metadata(trailer)
            return answer
        code = CODES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
        told = orjson.loads(answer)["error"] if answer else {"message": "The client has left.", "hint": ""}
        await context.abort(self._grpc.StatusCode[code], f"{told['message']} {told['hint']}".strip(), trailer)
        raise AssertionError(code)

    def _scope(self, path: str, context: Any) -> Scope:
        given = [
            (name.encode(), value.encode() if isinstance(value, str) else value)
            for name, value in context.invocation_metadata() or ()
        ]
        left = context.time_remaining()
        if left is not None:
            given.insert(0, (TIMEOUT, str(max(left, 1e-3)).encode()))
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "2",
            "method": "POST",
            "scheme": "https" if self._cert else "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": given,
            "client": _peer(context.peer()),
            "server": None,
            "app": self._app,
            "route": _Route(path),
        }


def _trailer(headers: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    found = {name.decode().lower(): value.decode("latin-1") for name, value in headers}
    told = {name: found[name] for name in ("x-request-id", RETRY) if name in found}
    if RETRY in told:
        told[PUSHBACK] = str(1000 * int(told[RETRY]))
    return tuple(told.items())


def _peer(text: str) -> tuple[str, int]:
    """Return a client's address as gRPC writes it.

    >>> _peer("ipv4:127.0.0.1:50051"), _peer("ipv6:%5B::1%5D:50051"), _peer("unix:")
    (('127.0.0.1', 50051), ('::1', 50051), ('', 0))
    """
    host, _, port = unquote(text).partition(":")[2].rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0
