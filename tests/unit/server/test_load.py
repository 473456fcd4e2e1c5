"""Many clients at once: nothing is mixed up, nothing is left behind, nothing grows."""

from __future__ import annotations

import concurrent.futures
import random
import socket
import time

from headstart.server.limits import Limits
from headstart.testing.toys import toy_runtime
from tests.unit.server.conftest import held

REQUEST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"


def test_every_answer_goes_to_its_request(serving, measure):
    runtime = toy_runtime(delay=0.002)
    rng = random.Random(3)
    requests = [[f"{rng.random()} {rng.random()}" for _ in range(rng.choice([1, 1, 1, 5, 300]))] for _ in range(120)]
    with serving(runtime, limits=Limits(queue_batches=64)) as client, concurrent.futures.ThreadPoolExecutor(16) as pool:

        def ask(texts):
            body = {"rows": texts} if len(texts) > 1 else texts[0]
            answer = client.post("/predict", json=body).json()
            return answer["predictions"] if len(texts) > 1 else [answer]

        answers = list(pool.map(ask, requests))
        batches = measure(client, "headstart_batch_items_count")
        assert measure(client, 'headstart_rows_total{model="toy",version="1"}') == sum(map(len, requests))
    quick = toy_runtime()
    assert answers == [[quick.predict_rows([text])[0] for text in texts] for texts in requests]
    assert batches < len(requests)


def test_a_storm_of_leaving_clients_leaves_nothing(serving, measure):
    waiting = 'headstart_queue_items{model="toy"}'

    def until(wanted):
        end = time.monotonic() + 30
        while measure(client, waiting) != wanted and time.monotonic() < end:
            time.sleep(0.02)
        assert measure(client, waiting) == wanted

    with serving(toy_runtime()) as client:
        release = held(client)
        place = (client.base_url.host, client.base_url.port)
        storm = [socket.create_connection(place) for _ in range(150)]
        for each in storm:
            each.sendall(REQUEST % (7, b'"words"'))
        until(150)
        for each in storm:
            each.close()
        until(0)
        release.set()
        assert client.post("/predict", json="still there?").status_code == 200
        assert measure(client, "headstart_inflight") == 1  # the request for the measures itself
        assert measure(client, "headstart_batch_items_sum") == 1
        assert measure(client, 'headstart_requests_total{route="/predict",status="499"}') == 150


def test_half_sent_requests_leave_nothing(serving, measure):
    with serving(toy_runtime()) as client:
        for _ in range(50):
            with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
                raw.sendall(REQUEST[:-2] % 100 + b"{")
        deadline = time.monotonic() + 5
        while measure(client, "headstart_inflight") > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert measure(client, "headstart_inflight") == 1


def test_memory_does_not_grow(serving, measure):
    with serving(toy_runtime()) as client:

        def ask(count):
            for each in range(count):
                client.post("/predict", json={"rows": [f"text {each} " * 20] * 10})
                if each % 50 == 0:
                    client.post("/predict", content=b"not JSON")
            return measure(client, "process_resident_memory_bytes")

        before = ask(500)
        assert ask(2000) - before < 6e6
