"""The served bundle: a real process, real HTTP, the same answers as from the shell."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.journeys.test_main_job import TICKET


@pytest.fixture(scope="module")
def server(bundle):
    command = [sys.executable, "-m", "headstart", "serve", str(bundle), "--port", "0", "--json", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = json.loads(process.stdout.readline())["url"]
        with httpx2.Client(base_url=url, timeout=30) as client:
            yield client, process
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "Traceback" not in said


def test_one_row_many_rows_and_the_shell_agree(server, bundle, headstart):
    client, _ = server
    shell = headstart("predict", bundle, TICKET, "--json", "--quiet").json
    alone = client.post("/predict", json={"body": TICKET}).json()
    many = client.post(
        "/predict", json={"rows": [{"body": TICKET}, TICKET, {"subject": "refund", "body": "please"}]}
    ).json()
    assert alone["department"] == shell["department"] == "Shipping & Delivery"
    assert many["predictions"][0] == many["predictions"][1]
    for name, value in shell.items():
        assert alone[name] == (pytest.approx(value, abs=2e-3) if name.endswith("_confidence") else value)


def test_health_metrics_and_the_schema_of_this_bundle(server):
    client, _ = server
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200
    assert "headstart_requests_total" in client.get("/metrics").text
    described = json.dumps(client.get("/openapi.json").json())
    for part in ("subject", "body", "department_confidence", "Shipping & Delivery"):
        assert part in described


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"not json", 400, "JSON"),
        (b'{"subjct": "x"}', 422, "subject"),
        (b'{"body": ["x"]}', 422, "body"),
        (b"{}", 422, ""),
        (b'{"body": "\xff"}', 400, ""),
    ],
)
def test_a_bad_body_gets_a_sentence(server, body, status, word):
    client, _ = server
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert word in answer.json()["error"]["message"] + answer.json()["error"]["hint"]


def test_fifty_megabytes_are_refused_at_once(server):
    client, process = server
    before, started = _peak(process), time.monotonic()
    try:
        answer = client.post("/predict", content=b'{"body": "' + b"x" * 50_000_000 + b'"}')
        assert answer.status_code == 413
    except httpx2.TransportError:
        pass  # The server may close the connection before all of it was sent.
    assert time.monotonic() - started < 30
    assert _peak(process) - before < 40_000
    assert client.get("/health/live").status_code == 200


def _peak(process) -> int:
    """Return the most memory that a process has had, in kB."""
    return int(Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0])


def test_a_taken_port_is_named(server, bundle, headstart):
    client, _ = server
    told = headstart("serve", bundle, "--port", client.base_url.port, "--quiet")
    assert told.code == 7
    assert "in use" in told.err


def test_the_demo_ends_by_itself_with_the_right_answer(headstart, tmp_path):
    told = headstart("demo", "--out", tmp_path / "demo", "--json", "--quiet")
    assert told.code == 0, told.err
    answer = told.json["answer"]
    assert answer["department"] == "Shipping & Delivery"
    assert answer["priority"] == "High"
    assert answer["suggested_action"] == "Track_Shipment"
    assert all(0 < answer[f"{target}_confidence"] <= 1 for target in ("department", "priority", "suggested_action"))
    assert (tmp_path / "demo" / "report.html").is_file()
