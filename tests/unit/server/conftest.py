"""A server of toys in a thread, on a free port."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn

from headstart.runtime import Runtime
from headstart.server.app import create_app
from headstart.server.models.rollout import Rollout
from headstart.testing.toys import toy_runtime

Serving = Callable[..., Any]


@contextmanager
def running(runtime: Runtime, **options: Any) -> Iterator[httpx2.Client]:
    """Serve a runtime and yield a client of it; `client.service` is not part of HTTP, but handy."""
    loops = []

    async def note(rollout: Rollout) -> None:
        loops.append(asyncio.get_running_loop())

    app = create_app(runtime, name="toy", background=[note], **options)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            client.service, client.rollout, client.loop = app.state.service, app.state.rollout, loops[0]
            client.app = app
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serving() -> Serving:
    """Return the context manager that serves a runtime."""
    return running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    """Return a client of a model that reads `subject` and `body`."""
    with running(toy_runtime(("subject", "body"))) as client:
        yield client


@pytest.fixture(scope="session")
def measure() -> Callable[[httpx2.Client, str], float]:
    """Return a function that reads one measure (with its labels) from /metrics; 0 where it is not there."""

    def read(client: httpx2.Client, name: str) -> float:
        for line in client.get("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        return 0.0

    return read


def held(client) -> threading.Event:
    """Keep the model's thread busy from now on, until the event that is returned is set.

    It is waited for: what comes before the thread has begun would be drawn with it, and wait in no queue.
    """
    begun, release = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        release.wait()

    client.loop.call_soon_threadsafe(client.service.batcher.call, hold)
    assert begun.wait(60)
    return release
