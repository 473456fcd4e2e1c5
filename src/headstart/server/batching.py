"""Batching: the rows of waiting requests go to the model together, as soon as it is free."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from headstart.core.errors import ResourceError
from headstart.server.metrics import Metrics

Row = dict[str, Any]
"""One input: cells by column."""
Answer = dict[str, Any]
"""One answer record, as `Runtime.predict_rows` gives it."""
LONGEST_WAIT = 60
"""The greatest `Retry-After`, in seconds."""


@final
class Busy(ResourceError):
    """The server cannot take a request now; in `retry_after` seconds it probably can."""

    def __init__(self, problem: str, *, retry_after: int = 1, hint: str = "") -> None:
        super().__init__(problem, hint=hint)
        self.retry_after = retry_after


@dataclass(eq=False, slots=True)
class _Job:
    """One request: its rows, what each costs, and how far the model has come with them."""

    rows: Sequence[Row]
    costs: Sequence[int]
    left: int
    load: int
    future: asyncio.Future[list[Answer]]
    arrived: float = field(default_factory=time.monotonic)
    taken: int = 0
    answers: list[Answer] = field(default_factory=list)

    def take(self, share: int) -> _Part:
        """Take the next row, and more while they cost no more than `share` in all."""
        start, cost = self.taken, self.costs[self.taken]
        self.taken += 1
        while self.taken < len(self.rows) and cost + self.costs[self.taken] <= share:
            cost += self.costs[self.taken]
            self.taken += 1
        self.left -= cost
        return _Part(self, self.rows[start : self.taken], cost)


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of one request that stand in one batch."""

    job: _Job
    rows: Sequence[Row]
    cost: int


_Outcome = tuple[_Part, list[Answer] | Exception]


@final
class Batcher:
    """A bounded queue in front of one model thread.

    A batch is whatever waits when the model becomes free: no timer delays it. It is drawn from the oldest requests,
    each of which gets at least one row into it; what room is left is shared evenly, so that a request of thousands
    of rows runs beside small ones instead of before them. A row costs its characters, and at least the budget's
    share of one row, so that one budget bounds both the rows and the characters of a batch.

    Args:
        predict: answers rows in order; called in the model thread only.
        metrics: where queue and batches are counted.
        rows: most rows in a batch.
        characters: most characters in a batch; a longer row is a batch of its own.
        batches: how many batches' worth of work may wait; a request counts as at most one batch.

    Attributes:
        failed: whether the model thread ended by an error, so that only a restart helps.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Row]], list[Answer]],
        metrics: Metrics,
        *,
        rows: int = 256,
        characters: int = 200_000,
        batches: int = 8,
    ) -> None:
        self._predict, self._metrics = predict, metrics
        self._budget, self._least = characters, max(1, characters // rows)
        self._room = batches * characters
        self._changed = threading.Condition()
        self._waiting: dict[_Job, None] = {}  # in order of arrival; a job leaves in one step wherever it stands
        self._load = self._rows = 0
        self._rate = 0.0
        self._stopped = False
        self.failed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="headstart-model", daemon=True)
        metrics.queue_items.set_function(lambda: self._rows)

    def start(self) -> None:
        """Start the model thread; called once, within the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self, seconds: float = 5.0) -> None:
        """Take no more requests, and wait at most `seconds` until the model has answered those that wait."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._loop is not None:
            await asyncio.to_thread(self._thread.join, seconds)

    @property
    def running(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and not self._stopped

    def submit(self, rows: Sequence[Row]) -> asyncio.Future[list[Answer]]:
        """Queue rows; cancelling the future takes them out of the queue again.

        Raises:
            Busy: the queue is full, or the model thread is not running.
        """
        if not self.running:
            raise Busy("The server is starting or stopping.", hint="Send the request again in a moment.")
        future = asyncio.get_running_loop().create_future()
        if not rows:
            future.set_result([])
            return future
        costs = [max(self._least, sum(len(cell) for cell in row.values() if isinstance(cell, str))) for row in rows]
        cost = sum(costs)
        job = _Job(rows, costs, cost, min(cost, self._budget), future)
        with self._changed:
            if self._waiting and self._load + job.load > self._room:
                raise self._full()
            self._waiting[job] = None
            self._load += job.load
            self._rows += len(rows)
            self._changed.notify()
        future.add_done_callback(lambda _: self._forget(job))
        return future

    def _full(self) -> Busy:
        seconds = math.ceil(self._load / self._rate) if self._rate else 1
        return Busy(
            f"The queue is full: {self._rows:,} rows are waiting.",
            retry_after=min(max(seconds, 1), LONGEST_WAIT),
            hint="Send the request again after the seconds in Retry-After.",
        )

    def _forget(self, job: _Job) -> None:
        with self._changed:
            if job in self._waiting:
                self._remove(job)
                self._rows -= len(job.rows) - job.taken

    def _remove(self, job: _Job) -> None:
        del self._waiting[job]
        self._load -= job.load

    def _batch(self) -> list[_Part]:
        """Take the next batch out of the queue."""
        window: list[_Job] = []
        firsts = 0
        for job in self._waiting:
            first = job.costs[job.taken]
            if window and firsts + first > self._budget:
                break
            window.append(job)
            firsts += first
        spare = max(self._budget - firsts, 0)
        parts = []
        # Those with little left come first, so that what they do not need goes to the others.
        for place, job in enumerate(sorted(window, key=lambda job: job.left)):
            first = job.costs[job.taken]
            part = job.take(first + spare // (len(window) - place))
            spare -= part.cost - first
            parts.append(part)
            self._rows -= len(part.rows)
            if job.taken == len(job.rows):
                self._remove(job)
        return parts

    def _work(self) -> None:
        parts: list[_Part] = []
        try:
            while True:
                with self._changed:
                    while not self._waiting and not self._stopped:
                        self._changed.wait()
                    if not self._waiting:
                        return
                    parts = self._batch()
                self._run(parts)
        except BaseException:
            self.failed = True
            raise
        finally:
            with self._changed:
                left, self._stopped = [part.job for part in parts] + list(self._waiting), True
            error = Busy("The model's thread has ended.", hint="Send the request again once the server is restarted.")
            self._tell([(_Part(job, (), 0), error) for job in left])

    def _run(self, parts: list[_Part]) -> None:
        started = time.monotonic()
        for part in parts:
            if not part.job.answers:
                self._metrics.queue_wait_seconds.observe(started - part.job.arrived)
        self._metrics.batch_items.observe(sum(len(part.rows) for part in parts))
        self._metrics.busy.switch(True)
        try:
            outcomes = self._answered(parts)
        finally:
            self._metrics.busy.switch(False)
        speed = sum(part.cost for part in parts) / max(time.monotonic() - started, 1e-6)
        self._rate = 0.8 * self._rate + 0.2 * speed if self._rate else speed
        self._tell(outcomes)

    def _answered(self, parts: list[_Part]) -> list[_Outcome]:
        """Answer a batch; where it fails, halve it until only the request that is to blame fails."""
        try:
            rows = [row for part in parts for row in part.rows]
            answers = self._predict(rows)
            if len(answers) != len(rows):
                raise RuntimeError(f"The model gave {len(answers)} answers for {len(rows)} rows.")
        except Exception as error:
            if len(parts) == 1:
                return [(parts[0], error)]
            half = len(parts) // 2
            return self._answered(parts[:half]) + self._answered(parts[half:])
        outcomes: list[_Outcome] = []
        at = 0
        for part in parts:
            outcomes.append((part, answers[at : at + len(part.rows)]))
            at += len(part.rows)
        return outcomes

    def _tell(self, outcomes: list[_Outcome]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, outcomes)


def _deliver(outcomes: list[_Outcome]) -> None:
    for part, outcome in outcomes:
        job = part.job
        if job.future.done():
            continue
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
            continue
        job.answers += outcome
        if len(job.answers) == len(job.rows):
            job.future.set_result(job.answers)
