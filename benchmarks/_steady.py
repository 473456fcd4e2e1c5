"""Serving in the long run: memory, redeploying under load, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

from _load import Tally, Target, asked_again, closed, post
from _servers import Server, free_port, headstart, noop
from _texts import as_bodies, mixed_texts

LEAVING = 1000
SLOW, ROWS = 0.01, 16
"""Seconds a row, and rows a batch, of the model that 1,000 clients ask and do not wait for."""


def growth(seconds: float, bundle: Callable[[], str]) -> dict[str, Any]:
    """Send 50,000 requests of several protocols, a tenth of them wrong, and compare memory with that after 5,000."""
    many = int(5000 * seconds)
    texts = as_bodies(mixed_texts(400))
    requests = post("/predict", texts) + post("/predict", [b'{"rows": [%s, %s]}' % (each, each) for each in texts])
    requests += post("/v1/models/toy:predict", [b'{"instances": [%s]}' % each for each in texts])
    tensor = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [%s]}]}'
    requests += post("/v2/models/toy/infer", [tensor % each for each in texts])
    requests += post("/predict", [b'{"no such column": %s}' % each for each in texts[:100]] + [b"not JSON"] * 50)
    requests += post("/models/other/predict", texts[:50])
    with noop() as server:
        target = Target(server.port, [requests[(7919 * each) % len(requests)] for each in range(len(requests))])
        first = asyncio.run(closed(target, 16, count=many // 10))
        early = server.megabytes()
        second = asyncio.run(closed(target, 16, count=many - many // 10))
        late = server.megabytes()
    return {
        "requests": many,
        "answers": {"first": first.counts(), "second": second.counts()},
        "megabytes_after_a_tenth": round(early, 1),
        "megabytes": round(late, 1),
        "growth": round(late / early - 1, 4),
        "target_growth": 0.05,
    }


def redeploy(seconds: float, bundle: Callable[[], str]) -> dict[str, Any]:
    """Swap versions under load, then stop the server under load: at once, and with a notice as a balancer needs it."""
    path = bundle()
    target = {"target_failed": 0}
    return {
        "swap": swapped(seconds, path) | target,
        "stop": stopped(seconds, path) | target,
        "stop with notice": stopped(seconds, path, notice=2.0) | target,
    }


def swapped(seconds: float, path: str) -> dict[str, Any]:
    """Load, try out, promote and roll back versions by the command line while 16 clients ask."""
    admin = free_port()
    verbs = (("load", "m", path), ("canary", "m", path, "--weight", "0.3"), ("promote", "m"), ("rollback", "m"))
    command = headstart("serve", f"m={path}", "--port", "{port}", "--admin-port", admin, "--quiet")
    with Server(command, "/health/ready") as server:

        async def run() -> tuple[Tally, list[str]]:
            done = asyncio.Event()
            load = asyncio.ensure_future(closed(questions(server), 16, stop=done.is_set))
            said = []
            for verb in verbs:
                await asyncio.sleep(seconds / len(verbs))
                told = headstart("rollout", *verb, "--admin", f"http://127.0.0.1:{admin}", "--json")
                process = await asyncio.create_subprocess_exec(*told, stdout=-1, stderr=-2)
                said.append(f"{verb[0]}: {(await process.communicate())[0].decode().strip()}")
            await asyncio.sleep(seconds / len(verbs))
            done.set()
            return await load, said

        tally, said = asyncio.run(run())
    return {"failed": tally.wrong(), "answers": tally.counts(), "lost": tally.lost[:5], "rollout": said}


def stopped(seconds: float, path: str, notice: float = 0.0) -> dict[str, Any]:
    """Send SIGTERM while 16 clients ask.

    Without a notice they ask until nobody takes a connection, and what counts as failed is what was sent and not
    answered. With one they stop once `/health/ready` says so, and nothing at all may fail.
    """
    options = ("--notice-seconds", notice) if notice else ()
    with Server(headstart("serve", f"m={path}", "--port", "{port}", "--quiet", *options), "/health/ready") as server:
        probe = Target(server.port, [b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"])

        async def run() -> Tally:
            turned = asyncio.Event()
            load = asyncio.ensure_future(closed(questions(server), 16, stop=turned.is_set))
            watch = asyncio.ensure_future(asked_again(probe, 0.1, load.done, until=lambda status, _: status == 503))
            await asyncio.sleep(seconds)
            server.process.send_signal(signal.SIGTERM)
            if notice:
                await watch
                turned.set()
            tally = await load
            watch.cancel()
            return tally

        tally = asyncio.run(run())
        code = server.process.wait(60)
    failed = tally.wrong() - (0 if notice else tally.refused)
    return {"failed": failed, "answers": tally.counts(), "lost": tally.lost[:5], "exit_code": code}


def questions(server: Server) -> Target:
    return Target(server.port, post("/predict", as_bodies(mixed_texts(500))))


def storm(seconds: float, bundle: Callable[[], str]) -> dict[str, Any]:
    """Let 1,000 clients ask a slow model and leave at once."""
    with noop(SLOW, ROWS) as server:
        target = Target(server.port, post("/predict", [json.dumps({"text": "words"}).encode()]))
        left, next_answer, emptied = asyncio.run(left_at_once(target, server))
        return {
            "clients": LEAVING,
            "waiting_when_they_left": left,
            "queue_empty_after_s": round(emptied, 2),
            "queue_items": server.measure("headstart_queue_items"),
            "next_answer_s": round(next_answer, 2),
            "rows_the_model_saw": server.measure("headstart_batch_items_sum"),
            "batch_s": SLOW * ROWS,
            "inflight": server.measure("headstart_inflight") - 1,  # the request for the measures itself
        }


async def left_at_once(target: Target, server: Server) -> tuple[float, float, float]:
    clients = [await target.connect() for _ in range(LEAVING)]
    for each in clients:
        each.ask(target.requests[0])
    waiting, until = 0.0, time.perf_counter() + 30
    while waiting < LEAVING / 2 and time.perf_counter() < until:
        await asyncio.sleep(0.02)
        waiting = await asyncio.to_thread(server.measure, "headstart_queue_items")
    for each in clients:
        if each.answer is not None:
            each.answer.cancel()
        each.transport.abort()
    started = time.perf_counter()
    answer = await closed(target, 1, count=1)
    while await asyncio.to_thread(server.measure, "headstart_queue_items"):
        await asyncio.sleep(0.02)
    return waiting, answer.seconds[0], time.perf_counter() - started
