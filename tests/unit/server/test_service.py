"""What every request gets: an id, a deadline, a way past those who wait, and a note in the journal."""

from __future__ import annotations

import concurrent.futures
import time

import httpx2
import pytest
from starlette.middleware import Middleware

from headstart.server.limits import Limits
from headstart.testing.toys import toy_runtime
from tests.unit.server.writers import letters


@pytest.mark.parametrize("given", ["abc", "-1", "0", "nan", "inf", "1e999", "", "1s"])
def test_a_time_that_is_none(client, given):
    answer = client.post("/predict", json="x", headers={"x-request-timeout": given})
    assert answer.status_code == 400
    assert "X-Request-Timeout" in answer.json()["error"]["message"]


def test_enough_time(client):
    assert client.post("/predict", json="x", headers={"x-request-timeout": "20"}).status_code == 200


def test_too_little_time(serving, measure):
    with serving(toy_runtime(delay=0.6)) as client:
        answers = []
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            ask = [
                pool.submit(httpx2.post, f"{client.base_url}/predict", json="x", headers={"x-request-timeout": "0.2"})
                for _ in range(4)
            ]
            answers = [each.result() for each in ask]
        assert {each.status_code for each in answers} == {504}
        assert "X-Request-Timeout" in answers[0].json()["error"]["message"]
        assert measure(client, 'headstart_rejected_total{reason="expired"}') == 4
        assert measure(client, 'headstart_queue_items{model="toy"}') == 0


def test_a_request_keeps_its_id(client):
    assert client.get("/health/live", headers={"x-request-id": "abc-1:2"}).headers["x-request-id"] == "abc-1:2"


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 200, "<script>"])
def test_a_request_without_a_sane_id_gets_one(client, given):
    headers = {} if given is None else {"x-request-id": given}
    ids = [client.get("/nothing", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert ids[0] != ids[1]
    assert given not in ids
    assert len(ids[0]) == 16


def test_a_stuck_model_is_told_of(serving):
    with serving(toy_runtime(delay=1.5), limits=Limits(stuck_seconds=0.2)) as client:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx2.post, f"{client.base_url}/predict", json="x", timeout=20)
            until = time.monotonic() + 5
            while client.get("/health/live").status_code == 200 and time.monotonic() < until:
                time.sleep(0.02)
            for path in ("/health/live", "/health/ready"):
                answer = client.get(path)
                assert answer.status_code == 503
                assert "busy with one batch" in answer.json()["error"]["message"]
            assert asked.result().status_code == 200
        assert client.get("/health/live").status_code == 200


def test_answers_are_noted_in_the_journal(serving):
    class Notes:
        def __init__(self) -> None:
            self.found = []

        def record(self, request_id, served, rows, answers, seconds, variant) -> None:
            self.found.append((request_id, served.name, served.version, rows, answers, seconds))

    notes = Notes()
    with serving(toy_runtime(), journal=notes) as client:
        answer = client.post("/predict", json={"rows": ["a", "b"]}, headers={"x-request-id": "seven"})
        client.post("/predict", json={"wrong": 1})
    (noted,) = notes.found
    assert noted[:3] == ("seven", "toy", "1")
    assert [row["text"] for row in noted[3]] == ["a", "b"]
    assert noted[4] == answer.json()["predictions"]
    assert 0 < noted[5] < 10


def test_a_guard_stands_before_the_routes_and_is_counted(serving, measure):
    class Closed:
        def __init__(self, app, word) -> None:
            self.app, self.word = app, word

        async def __call__(self, scope, receive, send):
            if scope["type"] != "http" or scope["path"] != "/predict":
                await self.app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": self.word})

    with serving(toy_runtime(), guard=[Middleware(Closed, word=b"closed")]) as client:
        answer = client.post("/predict", json="x")
        assert (answer.status_code, answer.text) == (401, "closed")
        assert answer.headers["x-request-id"]
        assert client.get("/health/live").status_code == 200
        assert measure(client, 'headstart_requests_total{route="/predict",status="401"}') == 1


def test_a_network_that_writes_is_served_as_it_is(serving, tmp_path):
    with serving(letters(tmp_path, again=2)) as client:
        front = client.get("/").json()
        assert front["task"] == "generate"
        assert front["columns"] == ["text"]
        answer = client.post("/predict?max_tokens=4", json="order")
        assert answer.json() == {"text": "derd", "tokens": 4, "ended": "length"}
        assert client.post("/predict?max_tokens=4&temperature=0", json={"rows": ["a", "b"]}).status_code == 200
        wrong = client.post("/predict?max_token=4", json="order")
        assert wrong.status_code == 400
        assert "Did you mean 'max_tokens'?" in wrong.json()["error"]["hint"]
        assert client.post("/predict?max_tokens=0", json="order").status_code == 400
        row = client.get("/openapi.json").json()["components"]["schemas"]["Row"]
        assert list(row["anyOf"][0]["properties"]) == ["text"]


def test_models_are_listed(serving):
    with serving({"a": toy_runtime(), "b c": toy_runtime(("subject", "body"))}) as client:
        told = client.get("/models").json()["models"]
        assert [each["name"] for each in told] == ["a", "b c"]
        for each in told:
            asked = client.post(each["links"]["predict"], json=each["example"]["row"])
            assert asked.json() == each["example"]["answer"]
        assert client.get("/models/a").json()["versions"] == {"1": "live"}
        assert client.get("/models/x").status_code == 404
        page = client.get("/?model=b%20c", headers={"accept": "text/html"}).text
        assert "models/b%20c/predict" in page
        assert 'name="subject"' in page
