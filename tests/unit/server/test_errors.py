"""Every refusal is JSON with a sentence, of the right status, and never a traceback."""

from __future__ import annotations

import json
import logging
import socket
import time

import pytest

from headstart.server.limits import Limits
from headstart.server.queue.work import Budget
from headstart.testing.toys import POISON, toy_runtime

FIELDS = "'subject', 'body'"


def refused(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "hint"}
    assert "Traceback" not in answer.text
    return error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"hello",
        b"{",
        b'{"body": "x"',
        b"{'body': 'x'}",
        b'{"body": NaN}',
        b'{"body": Infinity}',
        b'{"body": 1e999}',
        b'{"body": "\\ud800"}',
        b'{"body": "\xff\xfe"}',
        b'"\xed\xa0\x80"',
        b"\x00",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        '{"body": "x"}'.encode("utf-16"),
        b"%PDF-1.7 \x80\x81",
    ],
    ids=lambda body: repr(body[:16]),
)
def test_not_json(client, body):
    assert "JSON" in refused(client.post("/predict", content=body), 400)["message"] + "JSON" * (not body.strip())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "is null"),
        (3, "is a number"),
        (True, "is true or false"),
        ([{"body": "x"}], '{"rows": [row, …]}'),
        ({}, "is blank"),
        ("", "is blank"),
        ({"body": " \n", "subject": None}, "is blank"),
        ({"body": ["x"]}, "'body' is a list"),
        ({"body": {"a": 1}}, "'body' is an object"),
        ({"text": "a", "body": "b"}, "'body' twice"),
        ({"rows": "x"}, "'rows' is a text"),
        ({"rows": None}, "'rows' is null"),
        ({"rows": ["x"], "body": "y"}, "'body' beside 'rows'"),
        ({"rows": ["x", 5]}, "Row 2 is a number"),
        ({"rows": ["x", None]}, "Row 2 is null"),
        ({"rows": ["x", {}]}, "Row 2 is blank"),
        ({"rows": ["x", {"body": []}]}, "Row 2: the field 'body' is a list"),
        ({"rows": ["x", {"nobody": 1}]}, "Row 2 has a field 'nobody'"),
    ],
)
def test_json_that_the_model_does_not_read(client, body, words):
    assert words in refused(client.post("/predict", content=json.dumps(body)), 422)["message"]


def test_an_unknown_field_names_the_nearest(client):
    error = refused(client.post("/predict", json={"subjekt": "x"}), 422)
    assert FIELDS in error["message"]
    assert error["hint"] == "Did you mean 'subject'?"


def test_a_huge_field_name_is_neither_repeated_nor_compared(client):
    started = time.perf_counter()
    answer = client.post("/predict", json={"subjec" * 1_000_000: 1})
    assert time.perf_counter() - started < 20, "it is .1 where nothing else runs, minutes where it is compared"
    refused(answer, 422)
    assert len(answer.content) < 1000


def test_unknown_route(client):
    error = refused(client.get("/predcit"), 404)
    assert "POST /predict" in error["message"]
    assert error["hint"] == "Did you mean '/predict'?"
    refused(client.post("/predict/", json="x"), 404)


def test_method_not_allowed(client):
    answer = client.get("/predict")
    assert "Allowed: POST" in refused(answer, 405)["message"]
    assert answer.headers["allow"] == "POST"


def test_a_strange_host_header_is_no_fault(client):
    assert client.get("/nothing", headers={"host": "[::bad"}).status_code == 404


def test_too_many_rows(serving):
    with serving(toy_runtime(), limits=Limits(rows=3)) as client:
        assert client.post("/predict", json={"rows": ["x"] * 3}).status_code == 200
        error = refused(client.post("/predict", json={"rows": ["x"] * 4}), 413)
        assert "4 rows" in error["message"]
        assert "3" in error["message"]


def test_a_body_over_the_limit(serving, measure):
    with serving(toy_runtime(), limits=Limits(body_bytes=1000)) as client:
        assert client.post("/predict", json="x" * 990).status_code == 200
        assert "0.001 MB" in refused(client.post("/predict", json="x" * 1000), 413)["message"]
        refused(client.post("/predict", content=iter([b"x" * 600] * 2)), 413)
        assert client.post("/predict", content=iter([b'"', b"x" * 600, b'"'])).status_code == 200
        assert measure(client, 'headstart_rejected_total{reason="body_too_long"}') == 2


def test_50_mb_are_refused_at_once_and_not_kept(client, measure):
    before = measure(client, "process_resident_memory_bytes")
    chunk = b" " * 1_000_000
    started = time.perf_counter()
    refused(client.post("/predict", content=(chunk for _ in range(50)), headers={"content-length": "50000000"}), 413)
    refused(client.post("/predict", content=(chunk for _ in range(50))), 413)
    assert time.perf_counter() - started < 30
    assert measure(client, "process_resident_memory_bytes") - before < 40e6


def test_a_declared_50_mb_body_is_refused_before_it_is_sent(client):
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=5) as raw:
        raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_body_that_never_ends(serving):
    with serving(toy_runtime(), limits=Limits(body_seconds=0.1)) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=5) as raw:
            raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc")
            assert raw.recv(1000).startswith(b"HTTP/1.1 408")
        assert client.post("/predict", json="x").status_code == 200


def test_a_compressed_body(client):
    refused(client.post("/predict", content=b"x", headers={"content-encoding": "gzip"}), 415)


def test_a_bug_is_logged_under_a_number(client, caplog):
    with caplog.at_level(logging.ERROR, logger="headstart.server"):
        answer = client.post("/predict", json={"body": f"secret {POISON}"})
    error = refused(answer, 500)
    number = error["message"].rpartition(" ")[2].rstrip(".")
    assert len(number) == 12
    assert f"Error {number}" in caplog.text
    assert "ValueError: poison" in caplog.text  # the traceback is in the log
    assert "secret" not in caplog.text
    assert client.post("/predict", json="fine").status_code == 200


def test_a_full_queue(serving, measure):
    import concurrent.futures

    limits = Limits(budget=Budget(rows=1), queue_batches=2)
    with serving(toy_runtime(delay=0.2), limits=limits) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/predict", json="x"), range(8)))
        full = [answer for answer in answers if answer.status_code != 200]
        assert 4 <= len(full) <= 6
        for answer in full:
            assert "queue is full" in refused(answer, 503)["message"]
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert measure(client, 'headstart_rejected_total{reason="queue_full"}') == len(full)
        assert client.post("/predict", json="x").status_code == 200
