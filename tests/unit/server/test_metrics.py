"""/metrics is what Prometheus reads, and counts what happened."""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from headstart.server.record.metrics import BusyShare
from headstart.testing.toys import toy_runtime

NAMES = {
    "headstart_requests",
    "headstart_request_seconds",
    "headstart_rows",
    "headstart_queue_items",
    "headstart_inflight",
    "headstart_queue_wait_seconds",
    "headstart_batch_items",
    "headstart_rejected",
    "headstart_model_busy_ratio",
    "headstart_answer_seconds",
    "headstart_version_weight_ratio",
    "headstart_shadow_rows",
}


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_names_and_counts(serving):
    with serving(toy_runtime()) as client:
        client.post("/predict", json={"rows": ["a", "b", "c"]})
        client.post("/predict", json={"wrong": 1})
        for each in range(20):
            client.get(f"/made-up/{each}")
        client.get("/openapi.json")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert set(families) >= NAMES
    assert all(families[name].documentation for name in NAMES)
    found = samples(answer.text)
    assert found["headstart_requests_total", "/predict", "200"] == 1
    assert found["headstart_requests_total", "/predict", "422"] == 1
    assert found["headstart_requests_total", "404", "unknown"] == 20
    assert found["headstart_requests_total", "/openapi.json", "200"] == 1
    assert found["headstart_rows_total", "1", "toy"] == 3
    assert found["headstart_batch_items_sum",] == 3
    assert found["headstart_queue_items", "toy"] == 0
    assert found["headstart_inflight",] == 1


def test_the_names_are_clean_under_promtool(client):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    client.post("/predict", json="x")
    told = subprocess.run([promtool, "check", "metrics"], input=client.get("/metrics").content, capture_output=True)
    assert told.returncode == 0, told.stderr.decode() + told.stdout.decode()


def test_open_metrics_for_those_who_ask(client):
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert {family.name for family in openmetrics.text_string_to_metric_families(answer.text)} >= NAMES


def test_two_apps_do_not_share_counts(serving, measure):
    with serving(toy_runtime()) as one, serving(toy_runtime()) as two:
        one.post("/predict", json="x")
        assert measure(one, 'headstart_rows_total{model="toy",version="1"}') == 1
        assert measure(two, 'headstart_rows_total{model="toy",version="1"}') == 0


def test_the_busy_share_rises_and_falls():
    share = BusyShare(seconds=0.1)
    share.switch(True)
    time.sleep(0.2)
    busy = share.value()
    share.switch(False)
    time.sleep(0.2)
    assert 0.7 < busy <= 1
    assert share.value() < busy / 3
