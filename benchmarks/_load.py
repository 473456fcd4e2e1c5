"""A small load generator: keep-alive connections in one event loop, which counts what was sent and what came back.

Its own time on the processor is the caller's (`time.process_time`), so that it can be told apart from the server's.
"""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PATIENCE = 120.0
"""Seconds after which a request that has no answer counts as lost."""


class Gone(Exception):
    """The connection ended before the whole answer was there."""


@dataclass
class Tally:
    """What became of the requests of one load.

    Attributes:
        sent: when each was sent, or should have been, in seconds on `time.perf_counter`.
        seconds: from then to the whole answer.
        status: of the answer.
        lost: requests that were sent and never answered; when, and why.
        refused: requests for which there was no connection.
    """

    sent: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    lost: list[tuple[float, str]] = field(default_factory=list)
    refused: int = 0

    def add(self, sent: float, status: int) -> None:
        """Note an answer that is there now."""
        self.sent.append(sent)
        self.seconds.append(time.perf_counter() - sent)
        self.status.append(status)

    def of(self, *status: int, since: float = 0.0) -> np.ndarray:
        """Return the seconds of answers with a status, of requests sent since a time."""
        rows = zip(self.sent, self.seconds, self.status, strict=True)
        return np.array([seconds for sent, seconds, each in rows if each in status and sent >= since])

    def wrong(self) -> int:
        """Return how many requests have no right answer."""
        return len(self.status) - self.status.count(200) + len(self.lost) + self.refused

    def counts(self) -> dict[str, int]:
        """Return how many answers each status has, and how many requests have none."""
        found = {str(each): self.status.count(each) for each in sorted(set(self.status))}
        return found | {"lost": len(self.lost), "no connection": self.refused}


class Connection(asyncio.Protocol):
    """One connection, with one request on its way."""

    def __init__(self) -> None:
        self.buffer = b""
        self.answer: asyncio.Future[int] | None = None
        self.open = False
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport, self.open = transport, True

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end]
        length = LENGTH.search(head)
        if length is None:
            self._fail(f"an answer without a length: {head[:60]!r}")
            self.transport.abort()
            return
        whole = end + 4 + int(length[1])
        if len(self.buffer) < whole:
            return
        self.buffer = self.buffer[whole:]
        if b"\r\nconnection: close" in head.lower():
            self.open = False
            self.transport.close()
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._fail(f"closed ({exc or 'end of stream'})")

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request, and return a future of the answer's status; Gone where none comes."""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def _fail(self, why: str) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(Gone(why))


@dataclass
class Target:
    """Where requests go.

    Args:
        port: on this machine.
        requests: whole requests, sent in turn.
    """

    port: int
    requests: Sequence[bytes]

    async def connect(self) -> Connection:
        """Open a connection."""
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(Connection, "127.0.0.1", self.port)
        return made


def post(path: str, bodies: Sequence[bytes]) -> list[bytes]:
    """Return whole requests that send JSON bodies to a path."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    return [head.encode() + b"%d\r\n\r\n%s" % (len(body), body) for body in bodies]


async def closed(
    target: Target, clients: int, *, seconds: float = 0.0, count: int = 0, stop: Callable[[], bool] = lambda: False
) -> Tally:
    """Let each client send its next request as soon as it has its answer.

    Args:
        seconds: for how long; 0 for no end.
        count: how many requests in all; 0 for no end.
        stop: tells whether to end, asked before each request.
    """
    tally = Tally()
    until = time.perf_counter() + seconds if seconds else float("inf")
    turns = iter(_turns(target.requests, count))

    async def client() -> None:
        connection: Connection | None = None
        for request in turns:
            if stop() or time.perf_counter() >= until:
                break
            if connection is None or not connection.open:
                connection = await _connected(target, tally)
                if connection is None:
                    break
            await _asked(connection, request, time.perf_counter(), tally)
        if connection is not None and connection.open:
            connection.transport.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return tally


async def opened(
    target: Target, rate: float, seconds: float, *, most: int = 8000, over: asyncio.Event | None = None
) -> Tally:
    """Send so many requests a second, whatever becomes of them; each one's time runs from when it was due.

    Args:
        over: set when the last is sent.
        most: connections at once; a request that would need another counts as refused.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    tally = Tally()
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()
    started = time.perf_counter()

    async def one(request: bytes, due: float) -> None:
        connection = next((each for each in iter(lambda: idle.pop() if idle else None, None) if each.open), None)
        connection = connection or await _connected(target, tally)
        if connection is not None:
            await _asked(connection, request, due, tally)
            idle.append(connection)

    for number, request in enumerate(_turns(target.requests, int(rate * seconds))):
        due = started + number / rate
        if due > time.perf_counter():
            await asyncio.sleep(due - time.perf_counter())
        if len(running) >= most:
            tally.refused += 1
            continue
        task = asyncio.ensure_future(one(request, due))
        running.add(task)
        task.add_done_callback(running.discard)
    if over is not None:
        over.set()
    await asyncio.gather(*running)
    for each in idle:
        each.transport.close()
    return tally


async def asked_again(
    target: Target,
    pause: float,
    stop: Callable[[], bool],
    until: Callable[[int, float], bool] = lambda status, took: False,
) -> Tally:
    """Ask again and again, with a pause in between, until told to stop or an answer's status and seconds will do."""
    tally = Tally()
    connection: Connection | None = None
    for request in _turns(target.requests, 0):
        if stop() or (tally.status and until(tally.status[-1], tally.seconds[-1])):
            break
        if connection is None or not connection.open:
            connection = await _connected(target, tally)
        if connection is not None:
            await _asked(connection, request, time.perf_counter(), tally)
        await asyncio.sleep(pause)
    if connection is not None:
        connection.transport.close()
    return tally


def percentile(seconds: np.ndarray, share: float) -> float | None:
    """Return a percentile of seconds, in milliseconds."""
    return round(1000 * float(np.percentile(seconds, share)), 1) if len(seconds) else None


def _turns(requests: Sequence[bytes], count: int) -> Iterator[bytes]:
    number = 0
    while not count or number < count:
        yield requests[number % len(requests)]
        number += 1


async def _connected(target: Target, tally: Tally) -> Connection | None:
    try:
        return await target.connect()
    except OSError:
        tally.refused += 1
        return None


async def _asked(connection: Connection, request: bytes, due: float, tally: Tally) -> None:
    try:
        tally.add(due, await asyncio.wait_for(connection.ask(request), PATIENCE))
    except (Gone, TimeoutError) as error:
        tally.lost.append((time.perf_counter(), str(error) or f"no answer within {PATIENCE:.0f} s"))
        connection.open = False
        connection.transport.abort()
