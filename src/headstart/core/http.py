"""Ask a server, again where that can help, and turn its refusals into sentences."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headstart.core.errors import HubError
from headstart.core.offline import need_network
from headstart.core.registry import require

TRIES = 5
"""How often in a row a server may fail, without one new byte, before it is given up."""
LONGEST_WAIT = 120.0
"""Seconds that a server may ask us to wait (Retry-After) before we give up instead."""
PATIENCE = 30.0
"""Seconds without a byte after which a connection counts as cut."""
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that may pass by themselves."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for, and what it must be.

    Args:
        url: where it is; never shown, because it can hold a password.
        what: how errors and the progress bar call it.
        extra: the extra that brings the HTTP client, named after the caller's file.
        headers: sent along; `Authorization` is not sent to another host that the server redirects to.
        sha256: 64 hexadecimal digits; empty where it is not known.
        size: bytes; 0 where it is not known.
        key: the environment variable that holds the key to what is not public.
    """

    url: str = field(repr=False)
    what: str
    extra: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sha256: str = ""
    size: int = 0
    key: str = ""


class Refused(Exception):
    """A status that is no success, and the seconds that the server asks us to wait."""

    def __init__(self, status: int, wait: float | None) -> None:
        self.status, self.wait = status, wait
        super().__init__(f"status {status}")


class Cut(Exception):
    """The answer ended too early; `arrived` bytes of it are there."""

    def __init__(self, arrived: int) -> None:
        self.arrived = arrived
        super().__init__(f"cut after {arrived} bytes")


def ask(wanted: Wanted) -> Any:
    """Return the JSON that a server answers.

    Raises:
        HubError: it cannot be had.
    """
    need_network(wanted.what)

    def once() -> bytes:
        with answer(wanted, {}) as response:
            return bytes(response.read())

    try:
        return json.loads(persist(wanted, once))
    except ValueError as error:
        raise HubError(f"The answer about {wanted.what} is not JSON.", hint="Is it the right server?") from error


@contextlib.contextmanager
def answer(wanted: Wanted, extra: Mapping[str, str]) -> Iterator[Any]:
    """Yield a streamed answer whose status is 200, 206 (a part) or 416 (there is no such part).

    Raises:
        Refused: the status is another one.
    """
    client = require("httpx2", wanted.extra)
    timeout = client.Timeout(PATIENCE, connect=10.0)
    headers = {"Accept-Encoding": "identity", **wanted.headers, **extra}
    # httpx2 reads the proxies' variables itself, and drops Authorization where a redirect leads to another host.
    with (
        client.Client(timeout=timeout, follow_redirects=True) as opened,
        opened.stream("GET", wanted.url, headers=headers) as response,
    ):
        if response.status_code not in (200, 206, 416):
            wait = response.headers.get("Retry-After", "").strip()
            raise Refused(response.status_code, float(wait) if wait.isdigit() else None)
        yield response


def persist(wanted: Wanted, once: Callable[[], bytes]) -> bytes:
    """Call `once` until it gets through, waiting longer each time, and return what it returned.

    Raises:
        HubError: it failed too often, or in a way that will not pass.
    """
    client = require("httpx2", wanted.extra)
    failed, best = 0, 0
    while True:
        wait: float | None = None
        try:
            return once()
        except Refused as error:
            if error.status not in AGAIN or (error.wait or 0) > LONGEST_WAIT:
                raise _sentence(error, wanted) from None
            wait, problem = error.wait, _sentence(error, wanted)
        except Cut as error:
            if error.arrived > best:
                failed, best = 0, error.arrived
            problem = HubError(
                f"The connection broke {TRIES} times while fetching {wanted.what}.",
                hint="Run it again: what has arrived is kept and is not fetched again.",
            )
        except client.TransportError:
            # Its own words can hold the address, and with it a password.
            problem = HubError(
                f"{wanted.what} cannot be fetched: the server cannot be reached.",
                hint="Is there a network? A proxy is taken from HTTPS_PROXY. --offline uses what is on this machine.",
            )
        failed += 1
        if failed >= TRIES:
            raise problem
        time.sleep(wait if wait is not None else min(0.1 * 2**failed, 8.0))


def _sentence(refused: Refused, wanted: Wanted) -> HubError:
    status, key = refused.status, wanted.key
    kept = "Run it again later; what has arrived is kept."
    if status in (401, 403):
        given = bool(key and os.environ.get(key))
        return HubError(
            f"{wanted.what} may not be fetched{' with this key' if given else ' without a key'} (status {status}).",
            hint=f"{'Check' if given else 'Put your key into'} the environment variable {key}." if key else "",
        )
    if status in (404, 410):
        return HubError(f"There is no {wanted.what} (status {status}).", hint="Check its name and version.")
    if status == 429:
        wait = f" for {refused.wait:.0f} s" if refused.wait else ""
        return HubError(f"The server asks us to wait{wait} before fetching {wanted.what} (status 429).", hint=kept)
    return HubError(f"The server did not give {wanted.what} (status {status}).", hint=kept if status >= 500 else "")
