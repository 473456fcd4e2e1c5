"""Request bodies, read up to a limit of bytes and of time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import Request

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
    coding = request.headers.get("content-encoding", "identity")
    if coding.casefold() != "identity":
        raise RequestError(f"The body is compressed ('{coding[:20]}').", status=415, allowed="Send it as it is.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and float(declared) > most:
        raise _too_long(most, refused)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise _too_long(most, refused)
    except TimeoutError:
        problem = f"The body did not arrive within {seconds:g} s."
        raise refused("body_too_slow", RequestError(problem, status=408)) from None
    return bytes(body)


def _too_long(most: int, refused: Refused) -> HeadstartError:
    problem = f"The request's body is longer than {most / 1e6:g} MB."
    hint = "Send its rows in several requests, or start the server with a higher --max-body-mb."
    return refused("body_too_long", RequestError(problem, status=413, hint=hint))
