"""Token buckets: how often somebody may ask."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import final


@final
class Bucket:
    """A bucket that fills with `rate` tokens a second up to `burst`; 0 as the rate means that there is no limit.

    Whoever wants more tokens than the bucket can ever hold may go when it is full, and the next ones wait for it.

    >>> bucket = Bucket(rate=2, burst=3)
    >>> [bucket.take(2, now=0.0), bucket.take(2, now=0.0), bucket.take(2, now=0.5)]
    [0.0, 0.5, 0.0]
    """

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, max(burst, 1.0)
        self._tokens, self._at = self.burst, 0.0

    def take(self, tokens: float, now: float | None = None) -> float:
        """Take tokens and return 0, or take none and return in how many seconds they will be there."""
        if not self.rate:
            return 0.0
        now = time.monotonic() if now is None else now
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
        missing = min(tokens, self.burst) - self._tokens
        if missing > 0:
            return missing / self.rate
        self._tokens -= tokens
        return 0.0


@final
class Buckets:
    """One bucket for each name that was lately heard of, and never more than `most` of them."""

    def __init__(self, rate: float, burst: float, most: int = 10_000) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._known: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, name: str, tokens: float = 1.0) -> float:
        """Take tokens from a name's bucket; see `Bucket.take`."""
        bucket = self._known.get(name)
        if bucket is None:
            bucket = self._known[name] = Bucket(self._rate, self._burst)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        return bucket.take(tokens)
