"""What the server counts, for Prometheus."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OUTCOMES = ("agree", "disagree", "dropped", "failed")
"""What may come of a row that a shadow version answers."""
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
UNKNOWN = "unknown"
"""The `route` of a path that no route has, so that made-up paths make no new series."""


@final
class BusyShare:
    """The share of recent time in which the model was busy: an exponential average over `seconds`."""

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds, self._share, self._busy, self._at = seconds, 0.0, False, time.monotonic()
        self._lock = threading.Lock()

    def switch(self, busy: bool) -> None:
        """Note that the model begins or ends a batch."""
        self.value()
        self._busy = busy

    def value(self) -> float:
        """Return the share, 0 to 1."""
        with self._lock:
            now = time.monotonic()
            old = math.exp((self._at - now) / self._seconds)
            self._share, self._at = self._share * old + self._busy * (1 - old), now
            return self._share


@final
@dataclass(frozen=True, slots=True)
class Lane:
    """The measures of one model's queue."""

    wait: Histogram


@final
@dataclass(frozen=True, slots=True)
class Version:
    """The measures of one version of a model."""

    rows: Counter
    seconds: Histogram
    shadow: Callable[[str], Counter]


@final
class Metrics:
    """The server's measures, in a registry of their own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        ProcessCollector(registry=own)
        self.requests = Counter("headstart_requests", "HTTP requests answered.", ["route", "status"], registry=own)
        self.request_seconds = Histogram(
            "headstart_request_seconds", "Time from request to answer.", ["route"], registry=own, buckets=SECONDS
        )
        self._answered: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.inflight = 0  # changed in the event loop only
        Gauge("headstart_inflight", "HTTP requests in progress.", registry=own).set_function(lambda: self.inflight)
        self.rejected = Counter("headstart_rejected", "Requests refused, by reason.", ["reason"], registry=own)
        self.batch_items = Histogram("headstart_batch_items", "Rows in a batch.", registry=own, buckets=ITEMS)
        self.busy = BusyShare()
        Gauge(
            "headstart_model_busy_ratio", "Share of the last half minute in which the model was busy.", registry=own
        ).set_function(self.busy.value)
        self._per_model(own)

    def _per_model(self, own: CollectorRegistry) -> None:
        model, version = ["model"], ["model", "version"]
        self._items = Gauge("headstart_queue_items", "Rows waiting for the model.", model, registry=own)
        self._waits = Histogram(
            "headstart_queue_wait_seconds", "Time a request waits for the model.", model, registry=own, buckets=SECONDS
        )
        self._rows = Counter("headstart_rows", "Rows answered.", version, registry=own)
        self._seconds = Histogram(
            "headstart_answer_seconds",
            "Time from rows to answers, without reading the request.",
            version,
            registry=own,
            buckets=SECONDS,
        )
        self.weight = Gauge(
            "headstart_version_weight_ratio", "Share of requests that a version is to get.", version, registry=own
        )
        self._shadow = Counter(
            "headstart_shadow_rows",
            "Rows that a shadow version was to answer too, by what came of it: agree, disagree, dropped, failed.",
            [*version, "outcome"],
            registry=own,
        )

    def lane(self, name: str, waiting: Callable[[str], int]) -> Lane:
        """Return the measures of a model's queue; `waiting` says how many rows wait there."""
        self._items.labels(name).set_function(lambda: waiting(name))
        return Lane(self._waits.labels(name))

    def forget_lane(self, name: str) -> None:
        """Drop the measures of the queue of a model that is served no more."""
        for measure in (self._items, self._waits):
            with suppress(KeyError):
                measure.remove(name)

    def version(self, model: str, version: str) -> Version:
        """Return the measures of a version."""
        return Version(
            self._rows.labels(model, version),
            self._seconds.labels(model, version),
            lambda outcome: self._shadow.labels(model, version, outcome),
        )

    def forget(self, model: str, version: str) -> None:
        """Drop the measures of a version that is served no more, so that reloading makes no endless series."""
        for measure in (self._rows, self._seconds, self.weight):
            with suppress(KeyError):
                measure.remove(model, version)
        for outcome in OUTCOMES:
            with suppress(KeyError):
                self._shadow.remove(model, version, outcome)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        known = self._answered.get((route, status))
        if known is None:
            known = self.requests.labels(route, str(status)), self.request_seconds.labels(route)
            self._answered[route, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all measures and their content type, in the exposition format that `accept` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
