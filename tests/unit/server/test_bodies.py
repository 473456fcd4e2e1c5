"""Bodies come at once, in pieces, too slowly, too long, or not to their end."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from headstart.core.errors import RequestError
from headstart.server.requests.bodies import read_body


def read(pieces, *, most=100, seconds=5.0, headers=()):
    """Read a body that comes in pieces, (seconds, bytes, whether more comes); None where the client leaves."""
    coming = iter(pieces)

    async def receive():
        piece = next(coming)
        if piece is None:
            return {"type": "http.disconnect"}
        wait, body, more = piece
        if wait:
            await asyncio.sleep(wait)
        return {"type": "http.request", "body": body, "more_body": more}

    counted = []

    def refused(reason, error):
        counted.append(reason)
        return error

    request = Request({"type": "http", "headers": list(headers)}, receive)
    try:
        return asyncio.run(read_body(request, most, seconds, refused))
    finally:
        assert len(counted) <= 1


@pytest.mark.parametrize("first", [0, 0.01])
def test_a_body_is_put_together_whether_it_is_there_or_comes(first):
    assert read([(first, b"all of it", False)]) == b"all of it"
    assert read([(first, b"all ", True), (0, b"of ", True), (0.01, b"it", False)]) == b"all of it"
    assert read([(first, b"", False)]) == b""


@pytest.mark.parametrize("first", [0, 0.01])
def test_a_body_that_is_too_long_is_told(first):
    for pieces in ([(first, b"x" * 101, False)], [(first, b"x" * 60, True), (0, b"x" * 60, True)]):
        with pytest.raises(RequestError, match="longer than") as caught:
            read(pieces)
        assert caught.value.status == 413


def test_a_body_that_is_too_slow_is_told():
    for pieces in ([(9, b"", False)], [(0, b"x", True), (9, b"x", False)], [(0.01, b"x", True), (9, b"x", False)]):
        with pytest.raises(RequestError, match="did not arrive") as caught:
            read(pieces, seconds=0.05)
        assert caught.value.status == 408


@pytest.mark.parametrize("pieces", [[None], [(0, b"x", True), None], [(0.01, b"x", True), None]])
def test_who_leaves_before_the_end_is_noticed(pieces):
    with pytest.raises(ClientDisconnect):
        read(pieces)


def test_what_goes_wrong_while_it_is_read_is_passed_on():
    async def broken():
        await asyncio.sleep(0.01)
        raise OSError("the line is cut")

    request = Request({"type": "http", "headers": []}, broken)
    with pytest.raises(OSError, match="cut"):
        asyncio.run(read_body(request, 10, 1.0, lambda _, error: error))


def test_a_reader_that_is_cancelled_stops():
    async def scenario():
        stopped = asyncio.Event()

        async def receive():
            try:
                await asyncio.sleep(60)
            finally:
                stopped.set()

        task = asyncio.create_task(read_body(Request({"type": "http", "headers": []}, receive), 10, 60.0, None))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stopped.is_set()

    asyncio.run(scenario())
