"""Pace: how fast a model is, so that what waits for it can be told in seconds."""

from __future__ import annotations

import math
from typing import final

from headstart.server.queue.work import WHOLE

OLD = 0.8
"""What a batch counts when the next one has been measured."""
WORST = 4.0
"""How many times slower than expected a batch is believed to be: one that a busy machine held up says little."""


@final
class Pace:
    """What the lately answered batches of a lane cost, and how long they took."""

    __slots__ = ("_batches", "_cost", "_least", "_seconds", "_shortest")

    def __init__(self) -> None:
        self._batches = self._cost = self._seconds = self._shortest = 0.0
        self._least = math.inf

    @property
    def rate(self) -> float:
        """Cost a second, in parts of `WHOLE`; 0 where nothing has been measured."""
        return self._cost / self._seconds if self._seconds else 0.0

    def note(self, cost: float, seconds: float) -> None:
        """Note how long a batch took."""
        seconds = max(seconds, 1e-6)
        if self._seconds:
            seconds = min(seconds, WORST * max(cost / self.rate, self._shortest))
        if cost <= self._least or seconds < self._shortest:
            self._least, self._shortest = cost, seconds
        self._cost, self._seconds = OLD * self._cost + cost, OLD * self._seconds + seconds
        self._batches = OLD * self._batches + 1

    def seconds(self, cost: float) -> float:
        """Return how long a batch will take: as the latest ones did, and more where it costs more."""
        return max(self._seconds / self._batches, cost / self.rate) if self._batches else 0.0

    def batch(self, seconds: float) -> int:
        """Return what a batch may cost that takes so long, or twice as long as the shortest one where that is more.

        A network whose every pass takes long gains by batches, which rows one by one would never show.
        """
        if not self._seconds:
            return WHOLE
        return min(WHOLE, max(1, int(self.rate * max(seconds, 2 * self._shortest))))
