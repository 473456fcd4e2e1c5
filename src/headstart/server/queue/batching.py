"""Batching: the rows of waiting requests go to the model together, as soon as it is free."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, final

from headstart.core.errors import ResourceError
from headstart.server.queue.halving import Outcome, answered
from headstart.server.queue.lanes import PRESSED_SECONDS, Job, JobPart, Lane, draw
from headstart.server.queue.streams import Stream
from headstart.server.queue.work import WHOLE, Part, Work
from headstart.server.record.metrics import Metrics

LONGEST_WAIT = 60
"""The greatest `Retry-After`, in seconds."""
NEVER = math.inf
QUICK = 0.001
"""Seconds: a batch that is expected to take no longer is not handed over to another thread, which takes almost as long.

Two threads that take turns cost 0.4 ms of a processor here, a toy's batch 0.1 ms.
"""


@final
class Busy(ResourceError):
    """The server cannot take a request now; in `retry_after` seconds it probably can."""

    def __init__(self, problem: str, *, retry_after: int = 1, hint: str = "") -> None:
        super().__init__(problem, hint=hint)
        self.retry_after = retry_after


@final
class Expired(ResourceError):
    """The answer did not come within the time that the client gave."""

    status = 504


@final
class Batcher:
    """Bounded queues, one lane for each model, in front of one model thread.

    A batch is whatever waits when the model becomes free: no timer delays it. How it is drawn, `lanes.draw` says.
    Networks that write step by step take turns with batches, one step at a time. While the thread sleeps, the event
    loop itself answers what takes no longer than waking it would.

    Args:
        metrics: where queue and batches are counted.
        batches: how many batches' worth of work may wait in a lane; a request counts as at most half of a small one.

    Attributes:
        failed: whether the model thread ended by an error, so that only a restart helps.
    """

    def __init__(self, metrics: Metrics, *, batches: int = 8) -> None:
        self._metrics, self._batches = metrics, batches
        self._changed = threading.Condition()
        self._lanes: dict[str, Lane] = {}
        self._full: dict[Lane, None] = {}  # the lanes in which jobs wait
        self._calls: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._streams: deque[Stream] = deque()
        self._clock = 0.0
        self._waking = False
        self._asleep = False
        self._stopped = False
        self._busy_since = 0.0
        self._between = False
        self.failed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="headstart-model", daemon=True)

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

    def stuck(self) -> float:
        """Return for how many seconds the model has been busy with one batch or step; 0 where it is not."""
        since = self._busy_since
        return time.monotonic() - since if since else 0.0

    def waiting(self, lane: str) -> int:
        """Return how many rows wait in a lane."""
        return self._lanes[lane].rows if lane in self._lanes else 0

    def submit(
        self, work: Work, lane: str = "", *, deadline: float = NEVER, background: bool = False
    ) -> asyncio.Future[list[Any]]:
        """Queue work; cancelling the future takes it out of the queue again. Called in the event loop.

        Args:
            lane: the model's name.
            deadline: when it is too late for an answer, on the monotonic clock.
            background: whether the lane is served only when nothing else waits; it holds one batch.

        Raises:
            Busy: the lane is full, or the model thread is not running.
        """
        self._check_running()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        if not work.costs:
            future.set_result([])
            return future
        cost = sum(work.costs)
        with self._changed:
            own = self._lane(lane, background)
            load = min(cost, WHOLE if work.long else max(own.pace.batch(PRESSED_SECONDS) // 2, work.costs[0]))
            if own.full(load, len(work.costs), long=work.long):
                raise self._busy(own)
            if not own.jobs:
                self._full[own] = None
                own.clock = max(own.clock, self._clock)
            job = Job(work, own, future, deadline, cost, load)
            own.add(job)
        if not self._waking:
            # Once all that has arrived is queued: the batch is larger, and the thread does not compete with the loop.
            self._waking = True
            loop.call_soon(self._wake)
        future.add_done_callback(lambda future: self._forget(job) if future.cancelled() else None)
        return future

    def check(self, lane: str, least: int) -> None:
        """Refuse what cannot be taken before it is prepared.

        Args:
            least: what it costs at least.

        Raises:
            Busy: the lane is full.
        """
        own = self._lanes.get(lane)
        if own is not None and own.jobs:
            with self._changed:
                if own.full(least):
                    raise self._busy(own)

    def learn(self, lane: str, cost: int, seconds: float) -> None:
        """Take note of how long the model took, so that the first batches are not too large."""
        with self._changed:
            self._lane(lane, False).pace.note(cost, seconds)

    def call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run a function in the model thread, between batches, and return its result as a future.

        Raises:
            Busy: the model thread is not running.
        """
        self._check_running()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def stream(self, make: Callable[[], Iterator[str]], most: int) -> Stream:
        """Let the model write a text step by step.

        Args:
            make: starts it; called in the model thread.
            most: how many may be written side by side.

        Raises:
            Busy: as many are being written, or the model thread is not running.
        """
        self._check_running()
        with self._changed:
            if len(self._streams) >= most:
                raise Busy(f"{len(self._streams)} texts are being written.", hint="Send the request again in a moment.")
            stream = Stream(make, asyncio.get_running_loop(), self._wake)
            self._streams.append(stream)
            self._changed.notify()
        return stream

    def pause(self) -> None:
        """Let others come in between the steps of a long work; called by it, in the model thread.

        One batch of what is not long itself is answered, and one step of a stream is done.
        """
        if self._between or threading.current_thread() is not self._thread:
            return
        self._between = True
        try:
            with self._changed:
                stream, parts = self._next_stream(), self._drawn(long=False)
            if parts:
                self._tell(self._run(parts))
            if stream is not None:
                self._timed(stream.step)
        finally:
            self._between, self._busy_since = False, time.monotonic()
            self._metrics.busy.switch(True)

    def forget(self, lane: str) -> None:
        """Drop the lane of a model that is served no more, unless something waits in it."""
        with self._changed:
            if lane in self._lanes and not self._lanes[lane].jobs:
                del self._lanes[lane]
                self._metrics.forget_lane(lane)

    def _check_running(self) -> None:
        if not self.running:
            raise Busy("The server is starting or stopping.", hint="Send the request again in a moment.")

    def _lane(self, name: str, background: bool) -> Lane:
        found = self._lanes.get(name)
        if found is None:
            batches = 1 if background else self._batches
            found = self._lanes[name] = Lane(name, batches, self._metrics.lane(name, self.waiting), background)
        return found

    def _busy(self, lane: Lane) -> Busy:
        lane.refused = time.monotonic()
        # The lanes take turns: each has to wait for as much of the others as for its own.
        ahead = min(lane.left * len(self._full), sum(each.left for each in self._full))
        seconds = math.ceil(ahead / lane.pace.rate) if lane.pace.rate else 1
        return Busy(
            f"The queue is full: {lane.rows:,} rows are waiting.",
            retry_after=min(max(seconds, 1), LONGEST_WAIT),
            hint="Send the request again after the seconds in Retry-After.",
        )

    def _wake(self) -> None:
        self._waking = False
        with self._changed:
            # While this holds the lock, the thread stays asleep: no two ever run a model at once.
            while self._quick():
                parts = self._drawn()
                if parts:
                    _deliver(self._run(parts))
            if not self._idle():
                self._changed.notify()

    def _quick(self) -> bool:
        """Return whether all that is to be done is a batch that takes less time than waking the thread."""
        if not self._asleep or not self._full or self._calls or self._streams or self._stopped:
            return False
        cost = sum(lane.left for lane in self._full)
        return all(
            lane.pace.rate and lane.pace.seconds(cost) <= QUICK and not next(iter(lane.jobs)).work.long
            for lane in self._full
        )

    def _forget(self, job: Job) -> None:
        with self._changed:
            if job in job.lane.jobs:
                job.lane.remove(job)
                job.lane.rows -= len(job.work.costs) - job.taken
                if not job.lane.jobs:
                    self._full.pop(job.lane, None)

    def _next_stream(self) -> Stream | None:
        """Return the stream whose turn it is, and drop those that have ended."""
        for _ in range(len(self._streams)):
            stream = self._streams.popleft()
            if stream.ended:
                continue
            self._streams.append(stream)
            if stream.wants:
                return stream
        return None

    def _idle(self) -> bool:
        return not (self._full or self._calls or any(each.ended or each.wants for each in self._streams))

    def _work(self) -> None:
        parts: list[JobPart] = []
        try:
            while True:
                with self._changed:
                    while self._idle() and not (self._stopped and not self._streams):
                        self._asleep = True
                        self._changed.wait()
                        self._asleep = False
                    call = self._calls.popleft() if self._calls else None
                    stream = self._next_stream()
                    parts = self._drawn()
                    if self._stopped and not (parts or call or stream or self._full or self._streams):
                        return
                if call is not None:
                    self._timed(lambda call=call: self._call(*call))  # type: ignore[misc]
                if parts:
                    self._tell(self._run(parts))
                if stream is not None:
                    self._timed(stream.step)
        except BaseException:
            self.failed = True
            raise
        finally:
            self._end(parts)

    def _drawn(self, long: bool = True) -> list[JobPart]:
        lanes = [lane for lane in self._full if long or not next(iter(lane.jobs)).work.long]
        if not lanes:
            return []
        parts, late = draw(lanes)
        for lane in [lane for lane in self._full if not lane.jobs]:
            del self._full[lane]
        if parts:
            self._clock = min(part.job.lane.clock for part in parts)
        if late:
            error = Expired("The time that X-Request-Timeout gave is over.")
            self._tell([(JobPart(job, _nothing(job), 0), error) for job in late])
        return parts

    def _end(self, parts: list[JobPart]) -> None:
        with self._changed:
            jobs = [part.job for part in parts] + [job for lane in self._full for job in lane.jobs]
            calls, self._stopped, self._busy_since = list(self._calls), True, 0.0
            streams = list(self._streams)
        error = Busy("The model's thread has ended.", hint="Send the request again once the server is restarted.")
        self._tell([(JobPart(job, _nothing(job), 0), error) for job in jobs])
        for stream in streams:
            stream.fail(error)
        for _, future in calls:
            self._post(_settle, future, None, error)

    def _timed(self, work: Callable[[], None]) -> None:
        self._busy_since = time.monotonic()
        self._metrics.busy.switch(True)
        try:
            work()
        finally:
            self._metrics.busy.switch(False)
            self._busy_since = 0.0

    def _call(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        try:
            result, error = function(), None
        except Exception as raised:
            result, error = None, raised
        self._post(_settle, future, result, error)

    def _run(self, parts: list[JobPart]) -> list[Outcome]:
        started = time.monotonic()
        for each in parts:
            if not each.part.start:
                each.job.lane.measures.wait.observe(started - each.job.arrived)
        self._metrics.batch_items.observe(sum(len(each.part) for each in parts))
        outcomes: list[Outcome] = []
        self._timed(lambda: outcomes.extend(answered(parts)))
        cost, seconds = sum(part.cost for part in parts), time.monotonic() - started
        # How soon a batch breaks does not say how long one takes that is answered.
        if not any(isinstance(outcome, Exception) for _, outcome in outcomes):
            for lane in {part.job.lane for part in parts}:
                lane.pace.note(cost, seconds)
        return outcomes

    def _tell(self, outcomes: list[Outcome]) -> None:
        self._post(_deliver, outcomes)

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def _nothing(job: Job) -> Part:
    return Part(job.work, 0, 0)


def _deliver(outcomes: list[Outcome]) -> None:
    for each, outcome in outcomes:
        job = each.job
        if job.future.done():
            continue
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
            continue
        job.answers += outcome
        if len(job.answers) == len(job.work.costs):
            job.future.set_result(job.answers)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
