"""OpenTelemetry, where its packages are installed and its environment variables ask for it; nothing otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, final

from starlette.types import ASGIApp

from headstart.core import VERSION
from headstart.core.errors import MissingExtra
from headstart.core.registry import require

WANTED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
QUIET = "/health/,/metrics"
"""Paths that are asked every few seconds, and would drown the others."""

log = logging.getLogger("headstart.server")


def wanted() -> bool:
    """Return whether the environment asks for traces."""
    if os.environ.get("OTEL_SDK_DISABLED", "").casefold() == "true" or os.environ.get(WANTED[2]) == "none":
        return False
    return any(os.environ.get(name) for name in WANTED)


@final
class Tracing:
    """Spans of requests and batches.

    Args:
        provider: OpenTelemetry's tracer provider; None means that there are no spans.
    """

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("headstart", VERSION) if provider is not None else None

    def __bool__(self) -> bool:
        """Return whether there are spans."""
        return self._provider is not None

    def requests(self, app: ASGIApp) -> ASGIApp:
        """Return an app that makes a span of each request, within the trace that the client sent with it."""
        if not self:
            return app
        from starlette.middleware.opentelemetry import OpenTelemetryMiddleware

        return OpenTelemetryMiddleware(app, excluded_urls=QUIET, tracer_provider=self._provider)

    @contextmanager
    def batch(self, model: str, rows: int) -> Iterator[None]:
        """Make a span of what the model does."""
        made: Any = nullcontext()
        if self._tracer is not None:
            made = self._tracer.start_as_current_span("batch", attributes={"model": model, "rows": rows})
        with made:
            yield

    def close(self) -> None:
        """Send what has not been sent."""
        if self._provider is not None:
            self._provider.shutdown()


def tracing() -> Tracing:
    """Return tracing as the environment asks for it: `OTEL_EXPORTER_OTLP_ENDPOINT` and the like.

    Where the packages are missing there are no spans, and the log says so: clusters set such variables everywhere.
    """
    if not wanted():
        return Tracing()
    try:
        trace = require("opentelemetry.sdk.trace", "tracing")
        export = require("opentelemetry.sdk.trace.export", "tracing")
        resources = require("opentelemetry.sdk.resources", "tracing")
        otlp = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", "tracing")
    except MissingExtra as error:
        log.warning("There will be no traces: %s %s", error.problem, error.hint)
        return Tracing()
    name = os.environ.get("OTEL_SERVICE_NAME", "headstart")
    resource = resources.Resource.create({"service.name": name, "service.version": VERSION})
    provider = trace.TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    return Tracing(provider)
