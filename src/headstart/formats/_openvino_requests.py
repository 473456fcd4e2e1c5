"""How a compiled graph is asked: one request after the other on all cores, or one on each core side by side.

Cores that share a matrix product wait for each other at its end. Where they multiply so fast that this counts, much
work at once is done by several requests of one core each. A graph has to be compiled once more for that, so it is done
only after a session has spent some time on such work, as one buys skis after having rented them for a while.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np

from headstart.core.errors import HeadstartError

PATIENCE = 2.0
"""How many times as long as compiling took a session has worked before it compiles again."""
QUEUED = 2
"""Requests for each stream, so that none waits while an answer is read."""
MOST = 16
"""Streams at most; one thread of Python feeds them all."""
Job = Sequence[np.ndarray]
"""The inputs of one request."""


@final
class Repeatable:
    """A compiled graph that can be compiled again, for several requests at once.

    Args:
        make: compiles it for so many streams.
        threads: cores that it runs on.
    """

    def __init__(self, make: Callable[[int], Any], threads: int) -> None:
        started = time.perf_counter()
        self.compiled = make(1)
        self.again, self.streams, self.seconds = make, min(threads, MOST), time.perf_counter() - started
        self.inputs, self.outputs = self.compiled.inputs, self.compiled.outputs

    def create_infer_request(self) -> Any:
        """Return a request on all cores."""
        return self.compiled.create_infer_request()


@final
class Requests:
    """Runs jobs through a compiled graph.

    Args:
        compiled: the graph; it works on several jobs side by side where it is `Repeatable`.

    Attributes:
        request: what runs one job on all cores.
        splits: whether much work should come as several jobs.
    """

    def __init__(self, compiled: Any) -> None:
        self.request = compiled.create_infer_request()
        self._more = compiled if isinstance(compiled, Repeatable) and compiled.streams > 1 else None
        self._beside: list[Any] = []
        self._spent = 0.0

    @property
    def splits(self) -> bool:
        return self._more is not None

    def each(self, jobs: Sequence[Job]) -> Iterator[np.ndarray]:
        """Yield the first output of each job, in order; it holds until the next one is asked for."""
        several = self._more is not None and len(jobs) >= 2 * self._more.streams
        if several and self._ready():
            yield from self._side_by_side(jobs)
            return
        for job in jobs:
            started = time.perf_counter()
            made = self.request.infer(job, share_inputs=True, share_outputs=True)[0]
            self._spent += (time.perf_counter() - started) * several
            yield made

    def _ready(self) -> bool:
        more = self._more
        if more is None or self._beside:
            return bool(self._beside)
        if self._spent < PATIENCE * more.seconds:
            return False
        # What the graph was read from may be gone by now; then it goes on as it is.
        with contextlib.suppress(HeadstartError, OSError, RuntimeError):
            compiled = more.again(more.streams)
            self._beside = [compiled.create_infer_request() for _ in range(QUEUED * more.streams)]
        self._more = more if self._beside else None
        return bool(self._beside)

    def _side_by_side(self, jobs: Sequence[Job]) -> Iterator[np.ndarray]:
        free, busy = deque(self._beside), deque[Any]()
        try:
            for job in jobs:
                if not free:
                    busy[0].wait()
                    yield busy[0].get_output_tensor(0).data
                    free.append(busy.popleft())
                free[0].start_async(job, share_inputs=True)
                busy.append(free.popleft())
            while busy:
                busy[0].wait()
                yield busy[0].get_output_tensor(0).data
                busy.popleft()
        finally:
            for each in busy:
                with contextlib.suppress(RuntimeError):
                    each.wait()
