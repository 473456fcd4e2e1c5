"""The outermost layer: what a connection may send, what every answer carries, and the line that is logged for it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection
from typing import Any, final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.core.errors import RequestError
from headstart.server.errors import CLIENT_GONE
from headstart.server.protection.access import AccessLog
from headstart.server.protection.keyring import Respond, asked, count

MOST_HEADERS, MOST_HEADER_BYTES = 100, 32_768
"""How many header lines a request may have, and how long all of them may be."""
HEAD_SECONDS = 10.0
"""Seconds in which a request's line and headers must have arrived."""
TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
)
ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))
FOR_A_YEAR = (b"strict-transport-security", b"max-age=31536000")
LOOPBACK = re.compile(rb"(localhost|[a-z0-9-]+\.localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", re.IGNORECASE)


@final
class Guard:
    """Refuses heads that are too large, adds the security headers, and has each request logged; pure ASGI.

    Args:
        app: what is guarded.
        respond: makes an error's response.
        log: where each request is told; None means nowhere.
        tls: whether the server speaks TLS, so that browsers may be told to insist on it.
        local: whether the server is for this machine only and asks for no key. Then the `Host` must be this machine,
            or else any web page could reach the server through its visitor's browser, by a name of its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        respond: Respond,
        log: AccessLog | None = None,
        *,
        tls: bool = False,
        local: bool = False,
    ) -> None:
        self.app, self.respond, self.log, self.local = app, respond, log, local
        self.always = (*ALWAYS, FOR_A_YEAR) if tls else ALWAYS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked.set(scope)
        status = length = 0
        started = time.perf_counter()

        async def told(message: Message) -> None:
            nonlocal status, length
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message.get("headers", ())}
                missing = (each for each in self.always if each[0] not in present)
                message["headers"] = [*message.get("headers", ()), *missing]
            else:
                length += len(message.get("body", b""))
            await send(message)

        try:
            error = self._refusal(scope, scope["headers"])
            await (self.app if error is None else self.respond(scope, error))(scope, receive, told)
        except Exception:
            status = status or 500
            raise
        finally:
            if self.log is not None:
                self.log.request(scope, status or CLIENT_GONE, time.perf_counter() - started, length)

    def _refusal(self, scope: Scope, headers: Collection[tuple[bytes, bytes]]) -> RequestError | None:
        if len(headers) > MOST_HEADERS or sum(len(name) + len(value) for name, value in headers) > MOST_HEADER_BYTES:
            count(scope, "headers")
            return RequestError(
                "The request's headers are too long.",
                status=431,
                allowed=f"At most {MOST_HEADERS} lines and {MOST_HEADER_BYTES:,} bytes.",
            )
        if self.local and not all(LOOPBACK.fullmatch(value) for name, value in headers if name == b"host"):
            count(scope, "host")
            return RequestError(
                "The server is for this machine only, and was asked by another name.",
                status=421,
                allowed="Names: localhost, 127.0.0.1.",
                hint="Start it with --keys FILE to be asked by any name.",
            )
        return None


def timed(kind: type[Any], seconds: float = HEAD_SECONDS, most: int = 2 * MOST_HEADER_BYTES) -> type[Any]:
    """Return a uvicorn protocol that closes connections whose next request head does not arrive whole in time.

    Uvicorn by itself closes only connections that are idle between two requests: one that sends a byte of its headers
    every minute, or nothing at all, would stay for ever, and httptools would collect headers without end.

    Args:
        kind: uvicorn's own protocol, of h11 or httptools.
        seconds: from the connection, or the first byte of the next head, to the head's end.
        most: bytes of a head that are collected.
    """

    class Timed(kind):  # type: ignore[misc]
        late: asyncio.TimerHandle | None = None
        pending = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.late = self.loop.call_later(seconds, self.give_up, 1)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.transport.is_closing() or self.cycle is not before:
                self.rest()
            elif self.cycle is None or self.cycle.response_complete:
                self.pending += len(data)
                if self.late is None:
                    self.late = self.loop.call_later(seconds, self.give_up, 1)
                if self.pending > most:
                    self.give_up(0)

        def connection_lost(self, exc: Exception | None) -> None:
            self.rest()
            super().connection_lost(exc)

        def rest(self) -> None:
            self.pending = 0
            if self.late is not None:
                self.late.cancel()
                self.late = None

        def give_up(self, why: int) -> None:
            self.rest()
            if not self.transport.is_closing():
                if self.cycle is None or self.cycle.response_complete:
                    self.transport.write(TOO_LONG[why])
                self.transport.close()

    return Timed
