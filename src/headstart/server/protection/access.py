"""Who can reach the server, over what, and what is written down about it; never what was sent."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.core.errors import ResourceError, UsageError
from headstart.core.ledger import Decision, new_id
from headstart.server.models.shelf import request_id
from headstart.server.protection.keyring import ROWS, address, caller_name, route_of
from headstart.server.record.journal import Journal

CORS_SECONDS = 600
MOST_LINES = 10_000
"""Lines of the access log that may wait for the disk."""

log = logging.getLogger("headstart.server")


def loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    found = _addresses(host)
    return bool(found) and all(each.is_loopback for each in found)


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return a host's addresses; none of one that there is not."""
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return []
    return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]


def check_exposure(host: str, *, keys: bool, insecure: bool = False, tls: bool = False) -> str:
    """Check that a server which others can reach asks for keys, and return a warning, or an empty text.

    Args:
        host: the address to listen on.
        keys: whether requests need an API key.
        insecure: whether the user has said that it shall be open.
        tls: whether the server speaks TLS.

    Raises:
        UsageError: everybody who reaches the machine could use the model.
    """
    # Nobody can be reached at a host that there is not; listening there fails, and says so.
    if loopback(host) or not _addresses(host):
        return ""
    if not keys and not insecure:
        raise UsageError(
            f"On {host} other machines can reach the server, and nothing asks them for a key.",
            allowed="Keep to this machine (--host 127.0.0.1), ask for keys, or say that it shall be open.",
            hint="Type: headstart keys add keys.json NAME, then serve with --keys keys.json; or add --insecure",
        )
    if not keys:
        return f"Warning: everybody who reaches {host} can use the model: there are no API keys (--insecure)."
    if not tls:
        return "Warning: API keys cross the network in the clear; use --tls-cert and --tls-key, or a proxy with TLS."
    return ""


def tls_options(cert: Path | str, key: Path | str | None = None) -> dict[str, Any]:
    """Return uvicorn's options for TLS 1.2 or newer.

    Args:
        cert: a PEM file with the certificate and those that lead to its authority.
        key: a PEM file with its private key; None means that `cert` holds it, too.

    Raises:
        UsageError: a file is missing, or they do not belong together.
    """
    for path in (cert, key or cert):
        if not Path(path).is_file():
            raise UsageError(f"There is no file '{path}'.", hint="Give PEM files with --tls-cert and --tls-key.")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # An encrypted key would have OpenSSL ask for its password on the terminal.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise UsageError(
            f"'{cert}' and '{key or cert}' cannot be used for TLS: {reason}.",
            allowed="A certificate and its own private key without a password, as PEM files.",
        ) from error
    return {"ssl_certfile": os.fspath(cert), "ssl_keyfile": os.fspath(key) if key else None}


def cors_options(origins: Iterable[str]) -> dict[str, Any]:
    """Return CORSMiddleware's options, with which browsers let pages of these origins ask; without it, no page may.

    Args:
        origins: such as `https://shop.example`; `*` means every page. Cookies are never taken.

    Raises:
        UsageError: something is no origin.
    """
    origins = list(origins)
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (f"{parts.scheme}://{parts.netloc}" != origin or not parts.netloc or "@" in origin):
            raise UsageError(
                f"'{origin}' is no origin.", allowed="A scheme, a host and perhaps a port: https://shop.example"
            )
    return {
        "allow_origins": origins,
        "allow_methods": ("GET", "POST"),
        "allow_headers": ("authorization", "content-type", "x-api-key", "x-request-id", "x-request-timeout"),
        "expose_headers": ("x-request-id", "retry-after"),
        "max_age": CORS_SECONDS,
    }


@final
class AccessLog:
    """A JSON line for each request, written by a thread of its own, so that a slow disk delays nobody.

    Args:
        path: the file to append to, made readable by its owner; None means standard error.

    Raises:
        ResourceError: the file cannot be opened.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self._file = _Lines(path)
        self._lines: deque[dict[str, Any]] = deque()
        self._come = threading.Event()
        self._closing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="headstart-access-log", daemon=True)
        self._thread.start()

    def request(self, scope: Scope, status: int, seconds: float, length: int) -> None:
        """Note one request: who, which route, and how it went."""
        if len(self._lines) >= MOST_LINES:
            self.dropped += 1
            return
        line = {
            "ts": time.time(),
            "id": request_id.get(),
            "key": caller_name(scope),
            "from": address(scope),
            "method": scope["method"][:16],
            "route": route_of(scope) or "unknown",
            "status": status,
            "ms": round(1000 * seconds, 2),
            "rows": scope.get(ROWS, 0),
            "bytes": length,
        }
        self._lines.append(line)
        if not self._come.is_set():
            self._come.set()

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, for at most `seconds`."""
        self._closing = True
        self._come.set()
        self._thread.join(seconds)
        if not self._thread.is_alive():
            self._file.close()

    def _work(self) -> None:
        while True:
            self._come.wait()
            if not self._closing:
                time.sleep(0.1)
            self._come.clear()
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            try:
                self._file.write(b"".join(orjson.dumps(each) + b"\n" for each in lines))
            except (OSError, ValueError):
                self.dropped += len(lines)
            if self._closing and not self._lines:
                return


@final
class AuditLog:
    """A JSON line for everything that an operator does, on the disk before it returns.

    Args:
        path: the file to append to, made readable by its owner; None means standard error.

    Raises:
        ResourceError: the file cannot be opened.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self._file = _Lines(path)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def note(self, who: str, what: str, subject: str, result: str = "done", **detail: Any) -> None:
        """Append who did what to which subject, and with which result; a full disk is told in the log."""
        line = {"ts": time.time(), "who": who, "what": what, "subject": subject, "result": result, **detail}
        text = orjson.dumps(line, default=str)
        with self._lock:
            try:
                self._file.write(text + b"\n", sync=True)
            except OSError as error:
                log.error("The audit's file cannot be written (%s): %s", error.strerror, text.decode())


@final
class Audited:
    """Notes every request that changes something; pure ASGI, around the admin API.

    Args:
        app: the admin API.
        audit: where it is noted.
        journal: whose ledger gets the decision, too; None means no ledger.
    """

    def __init__(self, app: ASGIApp, audit: AuditLog, journal: Journal | None = None) -> None:
        self.app, self.audit, self.journal = app, audit, journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        status = 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, told)
        finally:
            subject, _, what = scope["path"][:300].rpartition("/")
            who = caller_name(scope) or address(scope)
            result = "done" if status < 400 else f"refused with {status}"
            await asyncio.to_thread(self.audit.note, who, what, subject, result)
            if self.journal is not None:
                decision = Decision(new_id(), time.time(), what, subject, who, result)
                with contextlib.suppress(ResourceError):
                    self.journal.ask(lambda ledger: ledger.append([decision]))


@final
class _Lines:
    """A file that is appended to, unbuffered, so that what a full disk refused is not tried again for ever."""

    def __init__(self, path: Path | str | None) -> None:
        self._handle = -1
        if path:
            try:
                self._handle = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
            except OSError as error:
                raise ResourceError(f"'{path}' cannot be written: {error.strerror}.") from error

    def write(self, text: bytes, sync: bool = False) -> None:
        if self._handle < 0:
            sys.stderr.write(text.decode())
            return
        while text:
            text = text[os.write(self._handle, text) :]
        if sync:
            os.fsync(self._handle)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
