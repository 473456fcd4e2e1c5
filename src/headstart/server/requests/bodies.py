"""Request bodies, read up to a limit of bytes and of time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from headstart.core.errors import HeadstartError, RequestError

Refused = Callable[[str, HeadstartError], HeadstartError]


async def read_body(request: Request, most: int, seconds: float, refused: Refused) -> bytes:
    """Read a request's body, and never more of it than the limit.

    Args:
        most: bytes of the longest body.
        seconds: in which it must have arrived.
        refused: counts a refusal, and returns its error.

    Raises:
        RequestError: it is too long (status 413), too slow (408) or compressed (415).
    """
    coding, declared = header(request.scope, b"content-encoding"), header(request.scope, b"content-length")
    if coding is not None and coding.casefold() != "identity":
        raise RequestError(f"The body is compressed ('{coding[:20]}').", status=415, allowed="Send it as it is.")
    if declared and declared.isdecimal() and float(declared) > most:
        raise _too_long(most, refused)
    begun = _Begun(request.receive())
    message = begun.found
    if message is not None and message["type"] == "http.request" and not message.get("more_body", False):
        # A clock for a body that is there already would take a tenth of a small request's time.
        body: bytes = message.get("body", b"")
        if len(body) > most:
            raise _too_long(most, refused)
        return body
    try:
        async with asyncio.timeout(seconds):
            body = await _rest(message or await begun, request.receive, most)
    except TimeoutError:
        problem = f"The body did not arrive within {seconds:g} s."
        raise refused("body_too_slow", RequestError(problem, status=408)) from None
    if len(body) > most:
        raise _too_long(most, refused)
    return body


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of that name, which is in lower case, or None."""
    for each, value in scope["headers"]:
        if each == name:
            return str(value, "latin-1")
    return None


class _Begun:
    """What is awaited, begun at once and run up to where it waits; awaiting this goes on from there.

    Attributes:
        found: what it returned without waiting; None where it waits.
    """

    def __init__(self, awaited: Awaitable[Message]) -> None:
        self.found: Message | None = None
        self._steps = awaited.__await__()
        try:
            self._waits = next(self._steps)
        except StopIteration as ended:
            self.found = ended.value

    def __await__(self) -> Generator[Any, Any, Message]:
        waits = self._waits
        try:
            while True:
                try:
                    given = yield waits
                except BaseException as error:
                    waits = self._steps.throw(error)
                else:
                    waits = self._steps.send(given)
        except StopIteration as ended:
            message: Message = ended.value
            return message


async def _rest(message: Message, receive: Receive, most: int) -> bytes:
    """Return the whole body that begins with a message, or its beginning where it is longer than `most` bytes."""
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > most or not message.get("more_body", False):
            return bytes(body)
        message = await receive()
    raise ClientDisconnect


def _too_long(most: int, refused: Refused) -> HeadstartError:
    problem = f"The request's body is longer than {most / 1e6:g} MB."
    hint = "Send its rows in several requests, or start the server with a higher --max-body-mb."
    return refused("body_too_long", RequestError(problem, status=413, hint=hint))
