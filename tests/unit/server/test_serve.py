"""The process: its port, its signals, and its end."""

from __future__ import annotations

import concurrent.futures
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from headstart.core.errors import MissingExtra, ResourceError, UsageError
from headstart.server.protection.protected import Protection
from headstart.stages.serve import serve
from headstart.testing.toys import toy_runtime

SCRIPT = """
import sys
from headstart.server.protection.protected import Protection
from headstart.stages.serve import serve
from headstart.testing.toys import toy_runtime
try:
    serve(toy_runtime(delay={delay}), name="toy", port=0, {options}ready=lambda url: print(url, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@contextmanager
def process(delay: float = 0.0, options: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server in a process of its own, and yield it with its address."""
    script = SCRIPT.format(delay=delay, options=options)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            lines: queue.Queue[str] = queue.Queue()
            threading.Thread(target=lambda: lines.put(server.stdout.readline()), daemon=True).start()
            yield server, lines.get(timeout=60).strip()
        finally:
            server.kill()


def ended(server: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = server.communicate(timeout=30)
    return server.returncode, errors


def test_sigterm_finishes_what_is_in_flight():
    with process(delay=1.0) as (server, url), concurrent.futures.ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(httpx2.post, f"{url}/predict", json=f"text {each}", timeout=30) for each in range(6)]
        until = time.monotonic() + 20
        # The seventh is the one that asks for the measures.
        while "headstart_inflight 7.0" not in httpx2.get(f"{url}/metrics").text and time.monotonic() < until:
            time.sleep(0.02)
        server.send_signal(signal.SIGTERM)
        assert [each.result().status_code for each in asked] == [200] * 6
        code, errors = ended(server)
        assert code == 0
        assert "Traceback" not in errors
        assert f"Serving 'toy' on {url}" in errors
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{url}/health/live")


def test_sigterm_gives_notice_first():
    with process(options="notice_seconds=1.5, ") as (server, url):
        assert httpx2.get(f"{url}/health/ready").status_code == 200
        server.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        assert httpx2.get(f"{url}/health/ready").status_code == 503
        assert httpx2.post(f"{url}/predict", json="late, but in time").status_code == 200
        assert ended(server)[0] == 0


def test_what_takes_longer_than_the_drain_is_cut_off():
    with (
        process(delay=3.0, options="drain_seconds=1, ") as (server, url),
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        asked = pool.submit(httpx2.post, f"{url}/predict", json="slow", timeout=20)
        while "headstart_inflight 2.0" not in httpx2.get(f"{url}/metrics").text and not asked.done():
            time.sleep(0.02)
        started = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert asked.result().status_code == 503
        assert "stopped" in asked.result().json()["error"]["message"]
        code, errors = ended(server)
        assert time.monotonic() - started < 20
        assert code == 0
        assert "Traceback" not in errors


def test_ctrl_c():
    with process() as (server, _):
        server.send_signal(signal.SIGINT)
        code, errors = ended(server)
        assert code == 130
        assert "Traceback" not in errors


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port that is in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use(taken):
    with pytest.raises(ResourceError) as caught:
        serve(toy_runtime(), name="toy", port=taken)
    assert caught.value.problem == f"Port {taken} on 127.0.0.1 is in use."
    free = int(caught.value.hint.removeprefix("Try --port "))
    assert free > taken or free == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free))


def test_a_port_that_is_bound_but_not_listened_to():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(ResourceError):
            serve(toy_runtime(), name="toy", port=other.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("127.0.0.1", 70000, "no port 70000"),
        ("no.such.host.invalid", 0, "no host 'no.such.host.invalid'"),
        ("192.0.2.1", 0, "not an address of this machine"),
    ],
)
def test_a_place_that_does_not_exist(host, port, words):
    with pytest.raises(UsageError, match=words):
        serve(toy_runtime(), name="toy", host=host, port=port, protection=Protection(insecure=True))


def test_others_are_not_let_in_without_keys():
    with pytest.raises(UsageError, match="nothing asks them for a key"):
        serve(toy_runtime(), name="toy", host="0.0.0.0", port=0)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_other_machines_are_warned_of():
    with process(options="host='0.0.0.0', protection=Protection(insecure=True), ") as (server, url):
        assert url.startswith("http://127.0.0.1:")
        assert httpx2.get(f"{url}/health/ready").status_code == 200
        server.send_signal(signal.SIGTERM)
        assert "there are no API keys" in ended(server)[1]


def test_grpc_asks_for_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtra) as missing:
        serve(toy_runtime(), port=0, grpc_port=0)
    assert missing.value.hint == "Install it with: pip install 'headstart[grpc]'"
