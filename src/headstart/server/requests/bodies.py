"""Request bodies, read up to a limit of bytes and of time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

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
    try:
        async with asyncio.timeout(seconds):
            message = await request.receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                body: bytes = message.get("body", b"")
            else:
                body = await _rest(message, request.receive, most)
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
