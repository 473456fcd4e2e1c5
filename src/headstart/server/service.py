"""The service: what protocols answer from."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, final

import numpy as np
from fastapi import Request
from starlette.requests import ClientDisconnect

from headstart.core.errors import HeadstartError, RequestError
from headstart.server.limits import Limits
from headstart.server.models.served import INLINE, Served
from headstart.server.models.shadow import Shadow
from headstart.server.models.shelf import Shelf, request_id
from headstart.server.protection.keyring import permit
from headstart.server.queue.batching import NEVER, Batcher, Busy, Expired
from headstart.server.queue.work import WHOLE, Answer, Row, Work
from headstart.server.record.metrics import Metrics, Version
from headstart.server.requests.bodies import header, read_body
from headstart.server.requests.inputs import admitted, check_written

NONE: Mapping[str, Any] = {}
TIMEOUT = b"x-request-timeout"
FILES_AT_ONCE = 64
"""Rows with files of one request that are decoded and queued at a time, which bounds memory."""


class Journal(Protocol):
    """What is told of every answer."""

    def record(
        self,
        request_id: str,
        served: Served,
        rows: Sequence[Row],
        answers: Sequence[Answer],
        seconds: float,
        variant: str = "live",
    ) -> None:
        """Take note of answers; must return at once and raise nothing."""


@final
class Service:
    """What protocols answer from: the models, the queue in front of them, and the measures.

    Args:
        limits: how much to take on.
        decoders: threads that decode files and long texts before they are queued.

    Attributes:
        shelf: the models.
        draining: whether the server has been told to stop.
        journal: what is told of every answer, or None.
    """

    def __init__(self, limits: Limits, *, decoders: int = 2) -> None:
        self.limits = limits
        self.shelf = Shelf()
        self.metrics = Metrics()
        self.batcher = Batcher(self.metrics, batches=limits.queue_batches)
        self.journal: Journal | None = None
        self.draining = False
        self._pool = ThreadPoolExecutor(decoders, thread_name_prefix="headstart-decode")
        self._decoding = 0
        self._measures: dict[Served, Version] = {}
        self._shadow = Shadow(self.batcher, self.shelf, self.measures, self._note)

    @property
    def ready(self) -> bool:
        """Whether requests are welcome: there are models, all warm, and nobody has told the server to stop."""
        return self.batcher.running and not self.draining and bool(self.shelf.entries) and not self.dead

    @property
    def dead(self) -> str:
        """Why only a restart helps, or empty: the model's thread has ended, or one batch takes far too long."""
        if self.batcher.failed:
            return "The model's thread has ended."
        stuck = self.batcher.stuck()
        if stuck > self.limits.stuck_seconds:
            return f"The model has been busy with one batch for {stuck:.0f} s."
        return ""

    async def body(self, request: Request) -> bytes:
        """Read a request's body, and never more of it than the limit.

        Raises:
            RequestError: it is too long (status 413), too slow (408) or compressed (415).
        """
        return await read_body(request, self.limits.body_bytes, self.limits.body_seconds, self.refused)

    def check_count(self, rows: int) -> None:
        """Raise RequestError (status 413) if a request has too many rows; asked before they are looked at."""
        if rows > self.limits.rows:
            allowed = f"Allowed: {self.limits.rows:,}."
            error = RequestError(
                f"The request has {rows:,} rows.", status=413, allowed=allowed, hint="Send them in several requests."
            )
            raise self.refused("too_many_rows", error)

    async def answer(
        self, request: Request, served: Served, rows: Sequence[Row], options: Mapping[str, Any] = NONE
    ) -> list[Answer]:
        """Return one answer for each row; rows of a client that leaves meanwhile never reach the model.

        Args:
            request: where the rows came from; its body has been read.
            served: what `shelf.find` gave.
            rows: cells by column, as `served.fields` makes them.
            options: of the task, such as `top`.

        Raises:
            HeadstartError: the rows cannot be read, or the options not used.
            Busy: the queue is full.
            Expired: the time that the client gave is over.
            ClientDisconnect: the client has left.
        """
        started, measures, deadline = time.perf_counter(), self.measures(served), self.deadline(request)
        permit(request.scope, served.name, len(rows))
        check_written(options, self.limits.caps)
        self._check_room(served)
        rows = await admitted(rows, served.fields.files, self.limits.caps, self.in_pool)
        served.users += 1
        try:
            coming = (
                self._decoded(served, rows, options, deadline)
                if served.heavy(rows)
                else self._submit(served.prepare(rows, options), served, deadline)
            )
            answers = await self._raced(request, coming, deadline)
        finally:
            served.users -= 1
        seconds = time.perf_counter() - started
        measures.rows.inc(len(rows))
        measures.seconds.observe(seconds)
        if self.journal is not None:
            entry = self.shelf.entries.get(served.name)
            canary = entry is not None and entry.canary == served.version
            self._note(served, rows, answers, seconds, "canary" if canary else "live")
        self._shadow.follow(served, rows, options, answers)
        return answers

    async def vectors(self, request: Request, served: Served, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, (n, width) float32, from the network that a model reads them with.

        Raises:
            RequestError: the model has no such network.
            Busy, Expired, ClientDisconnect: as `answer` does.
        """
        encoder = served.encoder
        if encoder is None:
            raise RequestError(
                f"The model '{served.name}' gives no vectors of texts.",
                allowed="Models that read texts with a network do, and networks served with --task embed.",
            )
        deadline = self.deadline(request)
        permit(request.scope, served.name, len(texts))
        served.users += 1
        try:
            long = sum(map(len, texts)) > INLINE
            work = await self.in_pool(encoder.prepare, texts) if long else encoder.prepare(texts)
            found = await self._raced(request, self._submit(work, served, deadline), deadline)
        finally:
            served.users -= 1
        self.measures(served).rows.inc(len(texts))
        return np.stack(found) if found else np.zeros((0, encoder.width), np.float32)

    async def stream(
        self, request: Request, served: Served, given: Any, options: Mapping[str, Any] = NONE
    ) -> AsyncIterator[str]:
        """Yield a text piece by piece as the model writes it, until it ends or the client leaves.

        Args:
            given: a text, a conversation (a list of messages), or a recording.

        Raises:
            HeadstartError: before the first piece, the input or an option cannot be used.
            Busy: as many texts as may be are being written.
        """
        deadline = self.deadline(request)
        permit(request.scope, served.name, 1)
        check_written(options, self.limits.caps)
        try:
            stream = self.batcher.stream(lambda: served.stream(given, options), self.limits.streams)
        except Busy as error:
            raise self.refused("queue_full" if self.batcher.running else "not_running", error) from None
        left = asyncio.ensure_future(departure(request.receive))
        left.add_done_callback(lambda _: stream.leave())
        served.users += 1
        try:
            while True:
                coming = asyncio.ensure_future(stream.next())
                await asyncio.wait((coming, left), timeout=_left(deadline), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    raise ClientDisconnect if left.done() else self.refused("expired", _expired())
                piece = coming.result()
                if piece is None:
                    break
                yield piece
            self.measures(served).rows.inc()
        finally:
            served.users -= 1
            stream.leave()
            left.cancel()

    async def in_pool(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function, such as one that decodes, in a small pool of threads.

        Raises:
            Busy: too much waits for the pool already.
        """
        if self._decoding >= self.limits.decoding:
            error = Busy("Too many requests with files are waiting.", hint="Send the request again in a moment.")
            raise self.refused("queue_full", error)
        self._decoding += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self._decoding -= 1

    def _note(
        self, served: Served, rows: Sequence[Row], answers: Sequence[Answer], seconds: float, variant: str
    ) -> None:
        if self.journal is not None:
            self.journal.record(request_id.get(), served, rows, answers, seconds, variant)

    def deadline(self, request: Request) -> float:
        """Return until when a client waits, on the monotonic clock: as many seconds as `X-Request-Timeout` says.

        Raises:
            RequestError: the header is no number of seconds (status 400).
        """
        given = header(request.scope, TIMEOUT)
        if given is None:
            return NEVER
        try:
            seconds = float(given)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise RequestError(
                f"The header X-Request-Timeout is '{given[:40]}'.", status=400, allowed="Seconds, such as 2.5."
            )
        return time.monotonic() + seconds

    def refused(self, reason: str, error: HeadstartError) -> HeadstartError:
        """Count a refusal and hand its error back, to be raised."""
        self.metrics.rejected.labels(reason).inc()
        return error

    def measures(self, served: Served) -> Version:
        """Return the measures of a version."""
        found = self._measures.get(served)
        if found is None:
            found = self._measures[served] = self.metrics.version(served.name, served.version)
        return found

    def forget(self, served: Served) -> None:
        """Drop what is kept of a version that is served no more."""
        self._measures.pop(served, None)
        self.metrics.forget(served.name, served.version)

    async def stop(self) -> None:
        """Answer what waits, and end the threads."""
        await self.batcher.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _decoded(
        self, served: Served, rows: Sequence[Row], options: Mapping[str, Any], deadline: float
    ) -> list[Answer]:
        """Answer rows that take long to prepare; those of many files in turns, of which one is decoded ahead."""
        size = FILES_AT_ONCE if served.fields.files else len(rows)
        answers: list[Answer] = []
        waiting: asyncio.Future[list[Answer]] | None = None
        try:
            for start in range(0, len(rows), size):
                work = await self.in_pool(served.prepare, rows[start : start + size], options)
                if waiting is not None:
                    answers += await waiting
                waiting = self._submit(work, served, deadline)
            return answers + (await waiting if waiting is not None else [])
        finally:
            if waiting is not None:
                waiting.cancel()

    def _check_room(self, served: Served) -> None:
        """Refuse at once what would be refused once it is prepared."""
        try:
            self.batcher.check(served.name, WHOLE // served.budget.rows)
        except Busy as error:
            raise self.refused("queue_full", error) from None

    def _submit(self, work: Work, served: Served, deadline: float) -> asyncio.Future[list[Any]]:
        try:
            return self.batcher.submit(work, served.name, deadline=deadline)
        except Busy as error:
            raise self.refused("queue_full" if self.batcher.running else "not_running", error) from None

    async def _raced(self, request: Request, coming: Any, deadline: float) -> Any:
        """Return what is coming, unless the client leaves or its time is over before."""
        answers = asyncio.ensure_future(coming)
        try:
            # What is answered within this turn of the loop is not raced, which costs an exception.
            await asyncio.sleep(0)
            if answers.done():
                return answers.result()
            return await first_of(answers, departure(request.receive), _left(deadline))
        except Expired as error:
            raise self.refused("expired", error) from None
        finally:
            answers.cancel()


async def first_of(answers: asyncio.Future[Any], leaving: Coroutine[Any, Any, None], seconds: float | None) -> Any:
    """Return the answers, unless the client leaves or the time is over before; all in the task of the request.

    The task waits for the client to leave, and is called back from there, as `asyncio.timeout` does it: a second task
    for each request costs more than all of its other bookkeeping.

    Args:
        answers: what is coming.
        leaving: ends when the client has left.
        seconds: how long to wait; None for ever.

    Raises:
        ClientDisconnect: the client has left.
        Expired: the time is over.
    """
    task = asyncio.current_task()
    assert task is not None
    waiting, called = True, False

    def call_back(_: Any = None) -> None:
        nonlocal called
        if waiting and not called:
            called = True
            task.cancel()

    loop = asyncio.get_running_loop()
    answers.add_done_callback(call_back)
    late = None if seconds is None else loop.call_later(seconds, call_back)
    try:
        await leaving
    except asyncio.CancelledError:
        if not called or task.uncancel() > 0:
            raise
    finally:
        waiting = False
        answers.remove_done_callback(call_back)
        if late is not None:
            late.cancel()
    if answers.done():
        return answers.result()
    raise _expired() if called else ClientDisconnect


def _expired() -> Expired:
    return Expired(
        "The answer was not there within the seconds of X-Request-Timeout.",
        hint="Give more seconds, or send the request again when the server is less busy.",
    )


def _left(deadline: float) -> float | None:
    return None if deadline == NEVER else max(deadline - time.monotonic(), 0)


async def departure(receive: Callable[[], Any]) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
