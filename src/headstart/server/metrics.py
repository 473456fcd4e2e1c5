"""What the server counts, for Prometheus."""

from __future__ import annotations

import math
import threading
import time
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
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
class Metrics:
    """The server's measures, in a registry of their own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        ProcessCollector(registry=own)
        self.requests = Counter("headstart_requests", "HTTP requests answered.", ["route", "status"], registry=own)
        self.request_seconds = Histogram(
            "headstart_request_seconds", "Time from request to answer.", ["route"], registry=own, buckets=SECONDS
        )
        self.inflight = Gauge("headstart_inflight", "HTTP requests in progress.", registry=own)
        self.rows = Counter("headstart_rows", "Rows answered.", registry=own)
        self.rejected = Counter("headstart_rejected", "Requests refused, by reason.", ["reason"], registry=own)
        self.queue_items = Gauge("headstart_queue_items", "Rows waiting for the model.", registry=own)
        self.queue_wait_seconds = Histogram(
            "headstart_queue_wait_seconds", "Time a request waits for the model.", registry=own, buckets=SECONDS
        )
        self.batch_items = Histogram("headstart_batch_items", "Rows in a batch.", registry=own, buckets=ITEMS)
        self.busy = BusyShare()
        Gauge(
            "headstart_model_busy_ratio", "Share of the last half minute in which the model was busy.", registry=own
        ).set_function(self.busy.value)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all measures and their content type, in the exposition format that `accept` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
