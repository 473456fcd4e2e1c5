"""What `POST /predict` reads and answers, and the routes beside it."""

from __future__ import annotations

import json

import pytest

from headstart.core import VERSION
from headstart.testing.toys import toy_runtime

RUNTIME = toy_runtime(("subject", "body"))
ROW = {"subject": "order", "body": "My order has not arrived."}


def test_one_row(client):
    assert client.post("/predict", json=ROW).json() == RUNTIME.predict_rows([ROW])[0]


def test_many_rows(client):
    rows = [ROW, {"body": "blue sky"}, "a bare text", {"subject": None, "body": "x"}]
    answer = client.post("/predict", json={"rows": rows})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"predictions": RUNTIME.predict_rows(rows)}


def test_no_rows(client):
    assert client.post("/predict", json={"rows": []}).json() == {"predictions": []}


@pytest.mark.parametrize("body", ["some words", {"body": "some words"}, {"text": "some words"}])
def test_a_text_is_the_main_column(client, body):
    assert client.post("/predict", json=body).json() == RUNTIME.predict_rows(["some words"])[0]


@pytest.mark.parametrize(("cell", "same"), [(12, "12"), (3.0, "3"), (True, "True"), ("12", "12")])
def test_plain_values_are_texts(client, cell, same):
    assert client.post("/predict", json={"body": cell}).json() == client.post("/predict", json={"body": same}).json()


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]
)
def test_any_content_type_will_do(client, kind):
    headers = {"content-type": kind} if kind else {}
    assert client.post("/predict", content=json.dumps(ROW).encode(), headers=headers).status_code == 200


def test_a_byte_order_mark_is_read_over(client):
    assert client.post("/predict", content=b"\xef\xbb\xbf" + json.dumps(ROW).encode()).status_code == 200


def test_a_column_may_be_called_rows(serving):
    with serving(toy_runtime(("rows", "other"))) as client:
        assert client.post("/predict", json={"rows": "one text"}).status_code == 200
        assert len(client.post("/predict", json={"rows": [{"rows": "one"}, "two"]}).json()["predictions"]) == 2


def test_a_column_may_be_called_text(serving):
    with serving(toy_runtime(("text", "body"))) as client:
        both = client.post("/predict", json={"text": "red", "body": "green"})
        assert both.json() == toy_runtime(("text", "body")).predict_rows([{"text": "red", "body": "green"}])[0]


def test_the_front_for_programs(client):
    front = client.get("/").json()
    assert front["name"] == "toy"
    assert front["headstart"] == VERSION
    assert front["columns"] == ["subject", "body"]
    assert front["targets"] == ["label"]
    assert front["example"]["answer"] == RUNTIME.predict_rows([front["example"]["row"]])[0]
    assert all(client.get(path).status_code in (200, 405) for path in front["links"].values())


def test_the_front_for_people(client):
    page = client.get("/", headers={"accept": "text/html,application/xhtml+xml"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'name="subject"' in page.text
    assert 'name="body"' in page.text
    assert "label_confidence" in page.text
    assert "http://" not in page.text  # it fetches nothing
    assert "https://" not in page.text


def test_names_are_escaped_in_the_page(serving):
    evil = '"><script>alert(1)</script>'
    with serving(toy_runtime((evil,))) as client:
        page = client.get("/", headers={"accept": "text/html"}).text
        assert "<script>alert" not in page
        assert client.post("/predict", json={evil: "words"}).status_code == 200


def test_docs_lead_to_the_page_where_there_is_no_web(client):
    assert "onerror=" in client.get("/docs").text


def test_health(client):
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_draining_is_told_and_still_answers(serving):
    with serving(toy_runtime()) as client:
        client.service.draining = True
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert "stopping" in ready.json()["error"]["message"]
        assert client.get("/health/live").status_code == 200
        assert client.post("/predict", json="words").status_code == 200
