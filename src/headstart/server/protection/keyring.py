"""The keys that a running server accepts, and how often each may be used."""

from __future__ import annotations

import hmac
import logging
import math
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headstart.core.errors import HeadstartError, ResourceError, listed
from headstart.server.errors import Errors
from headstart.server.protection.buckets import Bucket, Buckets
from headstart.server.protection.keys import KEY, Key, digest, read_keys

OPEN = frozenset(("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"))
"""Paths that need no key, for probes cannot send one."""
OPEN_CALLS = ("ServerLive", "ServerReady", "Check")
"""Calls over gRPC that need no key, as the paths."""
LONGEST_KEY = 200
"""Characters beyond which a key is not even looked at."""
NOBODY = Key("nobody", "", digest(""))
CALLER = "headstart.caller"
"""Where a request's scope holds the Caller."""
NAME = "headstart.caller_name"
ROWS = "headstart.rows"
asked: ContextVar[Scope | None] = ContextVar("asked", default=None)
"""The scope of the request that is being answered."""

Respond = Callable[[Scope, HeadstartError], Response]
"""Makes an error's response, in the form of the protocol that owns the path."""

log = logging.getLogger("headstart.server")


def told_by(errors: Errors) -> Respond:
    """Return what makes the responses of the errors of this module, with their headers."""

    def respond(scope: Scope, error: HeadstartError) -> Response:
        message = f"{error.problem} {error.allowed}".strip()
        return errors.told(scope["path"], error.status, message, error.hint, getattr(error, "headers", None))

    return respond


def count(scope: Scope, reason: str) -> None:
    """Count a refusal among the server's measures."""
    service = getattr(getattr(scope.get("app"), "state", None), "service", None)
    if service is not None:
        service.metrics.rejected.labels(reason).inc()


class Denied(HeadstartError):
    """No key, a wrong one (status 401), or one that does not allow this (403)."""

    def __init__(self, problem: str, *, status: int, allowed: str = "", hint: str = "") -> None:
        super().__init__(problem, allowed=allowed, hint=hint)
        self.status = status
        self.headers = {"WWW-Authenticate": 'Bearer realm="headstart"'} if status == 401 else {}


class Limited(ResourceError):
    """Too much was asked in too short a time; in `retry_after` seconds there is room again."""

    status = 429

    def __init__(self, problem: str, seconds: float, *, hint: str = "") -> None:
        super().__init__(problem, hint=hint)
        self.retry_after = max(1, math.ceil(seconds))
        self.headers = {"Retry-After": str(self.retry_after)}


@final
class Keyring:
    """The keys of a file, read again when the file changes; where it is damaged, the keys it had stay valid.

    Args:
        path: the file.
        every: how many seconds may pass until a change is seen.

    Raises:
        UsageError: the file cannot be used.
    """

    def __init__(self, path: Path | str, every: float = 1.0) -> None:
        self._path, self._every = Path(path), every
        self._stamp = self._now_on_disk()
        self._keys = {each.id: each for each in read_keys(self._path)}
        self._looked = time.monotonic()
        self._buckets: dict[str, tuple[Key, Bucket, Bucket]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, text: str) -> Key | None:
        """Return the key with this text, where it is valid now; how long that takes says nothing about the others."""
        if time.monotonic() - self._looked >= self._every:
            self._refresh()
        match = KEY.fullmatch(text[:LONGEST_KEY])
        key = self._keys.get(match[1], NOBODY) if match else NOBODY
        same = hmac.compare_digest(key.hash, digest(text[:LONGEST_KEY]))
        return key if same and key is not NOBODY and not key.expired(time.time()) else None

    def buckets(self, key: Key) -> tuple[Bucket, Bucket]:
        """Return the buckets of a key's requests and rows; keys of the same name share them."""
        held = self._buckets.get(key.name)
        if held is None or _limits(held[0]) != _limits(key):
            requests, rows = key.requests_per_second, key.rows_per_second
            held = key, Bucket(requests, requests * key.burst), Bucket(rows, rows * key.burst)
            self._buckets[key.name] = held
        return held[1:]

    def _now_on_disk(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino

    def _refresh(self) -> None:
        self._looked = time.monotonic()
        stamp = self._now_on_disk()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = {each.id: each for each in read_keys(self._path)}
        except HeadstartError as error:
            log.error("The API keys stay as they were: %s", error)
        else:
            log.info("The API keys were read again: %d.", len(self._keys))
            names = {each.name for each in self._keys.values()}
            self._buckets = {name: held for name, held in self._buckets.items() if name in names}


def _limits(key: Key) -> tuple[float, float, float]:
    return key.requests_per_second, key.rows_per_second, key.burst


def presented(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the key that a request's headers present, or an empty text where there is none or they contradict.

    >>> presented([(b"authorization", b"bearer  abc ")])
    'abc'
    """
    found = set()
    for name, value in headers:
        if name == b"x-api-key":
            found.add(value.strip())
        elif name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                found.add(rest.strip())
    return found.pop().decode("latin-1") if len(found) == 1 else ""


def needed(method: str, path: str) -> str:
    """Return the scope that a request needs; empty where it needs no key."""
    if path in OPEN and method in ("GET", "HEAD"):
        return ""
    if path == "/metrics":
        return "metrics"
    if path == "/feedback":
        return "feedback"
    changes = path.startswith("/v2/repository/") and path.endswith(("/load", "/unload"))
    return "admin" if changes or path.startswith("/admin") else "predict"


def called(method: str, path: str) -> str:
    """Return the scope that a call over gRPC needs; empty where it needs no key."""
    name = path.rpartition("/")[2]
    if name in OPEN_CALLS:
        return ""
    return "admin" if name in ("RepositoryModelLoad", "RepositoryModelUnload") else "predict"


@final
class Keyed:
    """Lets requests through whose key allows what they ask for; pure ASGI.

    Args:
        app: what is protected.
        ring: the keys.
        respond: makes an error's response.
        needed: tells the scope of a request by its method and path.
    """

    def __init__(
        self,
        app: ASGIApp,
        ring: Keyring,
        respond: Respond,
        needed: Callable[[str, str], str] = needed,
    ) -> None:
        self.app, self.ring, self.respond, self.needed = app, ring, respond, needed
        self.failures = Buckets(rate=1.0, burst=20.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        wanted = self.needed(scope["method"], path)
        if wanted:
            try:
                scope[CALLER] = Caller(self._admit(scope, wanted), self.ring)
            except (Denied, Limited) as error:
                await self.respond(scope, error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope, wanted: str) -> Key:
        text = presented(scope["headers"])
        key = self.ring.find(text)
        if key is None:
            wait = self.failures.take(address(scope))
            if wait:
                count(scope, "key_guessing")
                raise Limited("Too many requests without a valid API key came from this address.", wait)
            count(scope, "key")
            raise Denied(
                "The API key is not valid." if text else "The request has no API key.",
                status=401,
                hint="Send it as the header `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
            )
        scope[NAME] = key.name
        if wanted not in key.scopes:
            count(scope, "scope")
            raise Denied(
                f"The key '{key.name}' does not allow '{wanted}'.",
                status=403,
                allowed=f"It allows {listed(key.scopes)}.",
                hint="Whoever runs the server can give another key with `headstart keys add`.",
            )
        wait = self.ring.buckets(key)[0].take(1)
        if wait:
            count(scope, "rate")
            raise Limited(
                f"The key '{key.name}' has sent more than {key.requests_per_second:g} requests per second.", wait
            )
        return key


@final
@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Args:
        key: the key that it came with.
        ring: where the key's buckets are.
    """

    key: Key
    ring: Keyring

    def check(self, scope: Scope, model: str, rows: int) -> None:
        """Check the model and the rows that are asked for.

        Raises:
            Denied: the key is not for this model.
            Limited: it has asked for too many rows.
        """
        key = self.key
        if key.models and model not in key.models:
            count(scope, "scope")
            raise Denied(
                f"The key '{key.name}' is not for the model '{model}'.",
                status=403,
                allowed=f"It is for {listed(key.models)}.",
            )
        wait = self.ring.buckets(key)[1].take(rows)
        if wait:
            count(scope, "rate")
            raise Limited(f"The key '{key.name}' has sent more than {key.rows_per_second:g} rows per second.", wait)


def permit(scope: Scope, model: str, rows: int) -> None:
    """Note how many rows of which model a request asks for, and check that its key, if one is needed, allows them.

    Raises:
        Denied: the key is not for this model.
        Limited: it has asked for too many rows.
    """
    scope[ROWS] = scope.get(ROWS, 0) + rows
    caller = scope.get(CALLER)
    if caller is not None:
        caller.check(scope, model, rows)


def caller_name(scope: Scope) -> str:
    """Return the name of the key that a request came with, or an empty text."""
    return str(scope.get(NAME, ""))


def route_of(scope: Scope) -> str:
    """Return the path of the route that answers a request, or an empty text; not what the client wrote in its place."""
    return str(getattr(scope.get("route"), "path", ""))


def address(scope: Scope) -> str:
    """Return where a request came from; of an IPv6 address only the network, for one host has the rest to itself."""
    host = (scope.get("client") or ("",))[0] or "unknown"
    return ":".join(host.split(":")[:4]) if host.count(":") > 1 and not host.startswith("::") else host
