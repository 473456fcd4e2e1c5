"""Spans where the environment asks for them, and nothing at all otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headstart.core.errors import MissingExtra
from headstart.core.registry import require
from headstart.server.app import create_app
from headstart.server.record.tracing import WANTED, Tracing, tracing, wanted
from headstart.testing.toys import toy_runtime


@pytest.fixture
def environment(monkeypatch):
    for name in (*WANTED, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_nobody_asks_for_traces(environment):
    assert not wanted()
    app = create_app(toy_runtime(("body",)), name="toy")
    assert tracing().requests(app) is app
    with tracing().batch("toy", 3):
        pass
    tracing().close()


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_the_environment_asks(environment, variables, asked):
    for name, value in variables.items():
        environment.setenv(name, value)
    assert wanted() is asked


def test_without_its_package_the_log_says_so(environment, caplog):
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    environment.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with tracing().batch("toy", 1):
        pass
    assert "pip install 'headstart[tracing]'" in caplog.text


def test_it_costs_no_import(environment):
    code = (
        "import sys, headstart.server.record.tracing as t; t.tracing(); print([m for m in sys.modules if '.sdk' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_requests_and_batches_have_spans(serving):
    try:
        sdk, export = (
            require("opentelemetry.sdk.trace", "tracing"),
            require("opentelemetry.sdk.trace.export", "tracing"),
        )
        kept = require("opentelemetry.sdk.trace.export.in_memory_span_exporter", "tracing").InMemorySpanExporter()
    except MissingExtra as error:
        pytest.skip(error.problem)
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(kept))
    spans = Tracing(provider)
    from starlette.middleware import Middleware

    with serving(toy_runtime(("body",)), guard=[Middleware(spans.requests)]) as client:
        trace = "0af7651916cd43dd8448eb211c80319c"
        client.post("/predict", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}, json="red")
        client.get("/health/live")
    with spans.batch("toy", 3):
        pass
    request, batch = kept.get_finished_spans()
    assert request.name == "POST /predict"
    assert f"{request.context.trace_id:032x}" == trace
    assert dict(batch.attributes) == {"model": "toy", "rows": 3}
    spans.close()
