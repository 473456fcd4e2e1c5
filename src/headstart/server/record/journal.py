"""The journal: predictions on their way to the ledger, which never makes a request wait."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar, final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headstart.core.errors import DataError, ResourceError
from headstart.core.ledger import Ledger, Record, Run, new_id
from headstart.server.models.served import Served
from headstart.server.protection.keyring import asked, caller_name, route_of
from headstart.server.record.records import Answered, records_of

Result = TypeVar("Result")

GATHER = 0.2
"""Seconds in which records are gathered for one write."""
BATCH = 2000
"""Most rows of one write."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds between tries where the ledger cannot be written."""
POLITE = 64
"""Rows after which the thread lets others run."""
HOUR = 3600.0

log = logging.getLogger("headstart.server")


@final
class Journal:
    """A bounded queue with one thread behind it, which alone touches the ledger.

    `add` appends to the queue and returns; it waits for nothing. The thread writes what was gathered within a fifth of
    a second in one transaction. Where the ledger cannot be written, the records wait in the queue and the write is
    tried again; where the queue is full, new ones are dropped and counted.

    Args:
        open_ledger: opens the ledger; called by the thread, again after every failure.
        secret: the key of the inputs' HMAC.
        store_inputs: whether the inputs themselves are kept.
        keep_days: after how many days predictions are deleted; 0 means never.
        room: most rows that wait.
        room_bytes: most bytes of inputs that wait.
    """

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        secret: bytes,
        *,
        store_inputs: bool = False,
        keep_days: float = 0.0,
        room: int = 50_000,
        room_bytes: int = 64 << 20,
    ) -> None:
        self._open, self._secret, self._store_inputs = open_ledger, secret, store_inputs
        self._keep_seconds, self._room, self._room_bytes = keep_days * 86_400, room, room_bytes
        self._queue: deque[tuple[Answered, int]] = deque()
        self._taken: list[list[Record]] = []
        self._taken_bytes = 0
        self._served: set[tuple[str, str]] = set()
        self._asked: deque[tuple[Callable[[Ledger], Any], Future[Any]]] = deque()
        self._come, self._hurry = threading.Event(), threading.Event()
        self._in_rows = self._in_bytes = self._out_rows = self._out_bytes = 0
        self._closing = self._gone = False
        self._ledger: Ledger | None = None
        self._forgotten = 0.0
        self.kept = 0
        self.failing = ""
        self.dropped: Counter[str] = Counter(dict.fromkeys(("full", "large", "invalid", "stopped"), 0))
        self._thread = threading.Thread(target=self._work, name="headstart-journal", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many rows wait to be written."""
        return self._in_rows - self._out_rows

    def add(self, answered: Answered) -> None:
        """Take answered rows along, or drop and count them; called in one thread, it never waits and never fails."""
        rows, size = len(answered.rows), answered.size()
        if self._gone:
            self.dropped["stopped"] += rows
        elif size > self._room_bytes:
            self.dropped["large"] += rows
        elif self.waiting + rows > self._room or self._in_bytes - self._out_bytes + size > self._room_bytes:
            self.dropped["full"] += rows
        else:
            # Only this thread counts in, and only the journal's counts out, so that no lock is needed.
            self._in_rows += rows
            self._in_bytes += size
            self._queue.append((answered, size))
            if not self._come.is_set():
                self._come.set()

    def record(
        self,
        request_id: str,
        served: Served,
        rows: Sequence[Mapping[str, Any]],
        answers: Sequence[Mapping[str, Any]],
        seconds: float,
        variant: str = "live",
    ) -> None:
        """Take the answers of one version along, as `add` does."""
        targets = served.targets if served.task == "columns" else ()
        scope = asked.get() or {}
        self.add(
            Answered(
                request_id,
                route_of(scope),
                served.name,
                served.version,
                rows,
                answers,
                targets,
                variant,
                caller_name(scope),
                latency_ms=1000 * seconds,
            )
        )

    def ask(self, question: Callable[[Ledger], Result]) -> Future[Result]:
        """Have the thread do something with the ledger, after all that was added before.

        Raises:
            ResourceError: it is stopped, too much is asked at once, or the ledger cannot be used (in the future).
        """
        future: Future[Result] = Future()
        if self._gone or self.failing or len(self._asked) >= 1000:
            raise _unusable(self.failing)
        self._asked.append((question, future))
        self._hurry.set()
        self._come.set()
        return future

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits, for at most `seconds`; what is left then is dropped and counted."""
        self._closing = True
        self._hurry.set()
        self._come.set()
        self._thread.join(seconds)
        self._gone = True
        self.dropped["stopped"] += self.waiting
        if self.waiting:
            log.warning("%d predictions could not be kept: %s", self.waiting, self.failing or "the ledger is slow.")

    def metrics(self) -> Collector:
        """Return what Prometheus may be told, to be registered."""
        return _Measures(self)

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while not self._gone:
            try:
                if self._ledger is None:
                    self._ledger = self._open()
                self._write(self._ledger)
                self._answer(self._ledger)
                self._forget(self._ledger)
            except Exception as error:
                self._failed(error)
                if self._closing:
                    return
                self._hurry.wait(pause)
                self._hurry.clear()
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if self.failing:
                log.warning("The ledger can be written again; %d predictions were dropped.", self.dropped.total())
            self.failing, pause = "", FIRST_PAUSE
            if self._closing and not self._queue:
                self._ledger.close()
                return
            self._await()

    def _await(self) -> None:
        """Wait until there is something, and then a little more for others to come along."""
        if not self._queue and not self._asked:
            self._come.clear()
            if not self._queue and not self._asked and not self._closing:
                self._come.wait(HOUR if time.time() - self._forgotten < HOUR else GATHER)
        if self.waiting < BATCH:
            self._hurry.wait(GATHER)
        self._hurry.clear()

    def _write(self, ledger: Ledger) -> None:
        """Write all that waits; what cannot be written now stays in `_taken` for the next time."""
        while self._queue or self._taken:
            while self._queue and len(self._taken) < BATCH:
                self._take(*self._queue.popleft())
            try:
                ledger.append([record for row in self._taken for record in row])
                self.kept += len(self._taken)
            except DataError:
                self._one_by_one(ledger)
            self._out_rows += len(self._taken)
            self._out_bytes += self._taken_bytes
            self._taken, self._taken_bytes = [], 0

    def _one_by_one(self, ledger: Ledger) -> None:
        """Write rows of which one cannot be kept, so that it fails alone."""
        for row in self._taken:
            try:
                ledger.append(row)
                self.kept += 1
            except DataError:
                self.dropped["invalid"] += 1

    def _take(self, answered: Answered, size: int) -> None:
        """Make the records of answered rows."""
        self._taken_bytes += size
        made: list[Record] = []
        if (answered.model, answered.version) not in self._served:
            self._served.add((answered.model, answered.version))
            made.append(Run(new_id(), answered.ts, "serve", answered.model, answered.version))
        for number in range(len(answered.rows)):
            if number % POLITE == 0:
                # Hands the interpreter over, which would else be taken from the event loop for 5 ms at a time.
                time.sleep(0)
            try:
                self._taken.append([*made, *records_of(answered, number, self._secret, self._store_inputs)])
                made = []
            except Exception:
                self.dropped["invalid"] += 1
                self._out_rows += 1
                log.exception("A prediction cannot be kept.")

    def _answer(self, ledger: Ledger) -> None:
        while self._asked:
            question, future = self._asked.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(question(ledger))
                except Exception as error:
                    future.set_exception(error)

    def _forget(self, ledger: Ledger) -> None:
        """Delete what is too old, a little at a time."""
        if (
            self._keep_seconds
            and time.time() - self._forgotten > HOUR
            and not ledger.forget(time.time() - self._keep_seconds)
        ):
            self._forgotten = time.time()

    def _failed(self, error: Exception) -> None:
        """Note that the ledger cannot be used, and tell those who asked."""
        before, self.failing = self.failing, str(error) or type(error).__name__
        if not before:
            log.warning("Predictions are not kept now, and will be once the ledger can be written: %s", self.failing)
        while self._asked:
            future = self._asked.popleft()[1]
            if future.set_running_or_notify_cancel():
                future.set_exception(_unusable(self.failing))
        if self._ledger is not None:
            with contextlib.suppress(Exception):
                self._ledger.close()
            self._ledger = None


@final
class _Measures(Collector):
    """What the journal counts, read when Prometheus asks."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def collect(self) -> Iterator[Metric]:
        """Yield the measures."""
        journal = self.journal
        yield CounterMetricFamily("headstart_journal_rows", "Answered rows written to the ledger.", value=journal.kept)
        dropped = CounterMetricFamily(
            "headstart_journal_dropped", "Answered rows that could not be kept, by reason.", labels=["reason"]
        )
        for reason, rows in sorted(journal.dropped.items()):
            dropped.add_metric([reason], rows)
        yield dropped
        yield GaugeMetricFamily(
            "headstart_journal_waiting", "Answered rows that wait to be written.", value=journal.waiting
        )
        yield GaugeMetricFamily(
            "headstart_journal_failing", "1 while the ledger cannot be written.", value=float(bool(journal.failing))
        )


def _unusable(why: str) -> ResourceError:
    return ResourceError(f"The ledger cannot be used now. {why}".strip(), hint="Try again later.")
