"""Requests that go straight to their endpoints are answered as FastAPI would answer them."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from headstart.server.app import create_app
from headstart.server.direct import MOST_KNOWN, Direct
from headstart.testing.toys import toy_runtime

SENT = {"text": "words"}
ROWS = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["words"]}]}
CASES = [
    ("POST", "/predict", SENT),
    ("POST", "/predict", {"no such": 1}),
    ("POST", "/models/toy/predict", SENT),
    ("POST", "/models/other/predict", SENT),
    ("POST", "/models/toy/versions/1/predict", SENT),
    ("POST", "/models/t%6Fy/predict", SENT),
    ("POST", "/v2/models/toy/infer", ROWS),
    ("POST", "/v2/models/toy/infer?version=7", ROWS),
    ("POST", "/v2/models/toy/versions/1/infer", ROWS),
    ("POST", "/v1/models/toy:predict", {"instances": ["words"]}),
    ("POST", "/v1/models/toy:predict", {"instances": "wrong", "inputs": 1}),
    ("POST", "/v1/models/toy/labels/stable:predict", {"instances": ["words"]}),
    ("GET", "/predict", None),
    ("GET", "/nothing", None),
    ("GET", "/v2/models/stats", None),
    ("GET", "/health/ready", None),
    ("HEAD", "/health/ready", None),
]


def table_of(app):
    """Return how an app finds the routes of a path."""
    return Direct(app, app.plain, app.errors)


def scope(method: str, path: str, root: str = ""):
    return {"type": "http", "method": method, "path": path, "root_path": root, "query_string": b"", "headers": []}


@pytest.fixture(scope="module")
def both():
    apps = [create_app(toy_runtime(), name="toy") for _ in range(2)]
    apps[1].plain = []
    with TestClient(apps[0]) as direct, TestClient(apps[1]) as routed:
        yield direct, routed


@pytest.mark.parametrize(("method", "path", "body"), CASES)
def test_the_answer_is_that_of_the_documented_route(both, method, path, body):
    direct, routed = (each.request(method, path, json=body) for each in both)
    assert direct.status_code == routed.status_code
    if "stats" not in path:
        assert direct.content == routed.content
    assert direct.headers.get("content-type") == routed.headers.get("content-type")


def test_every_documented_route_is_found():
    app = create_app(toy_runtime(), name="toy")
    table = table_of(app)
    for path, methods in app.openapi()["paths"].items():
        made = path.replace("{name}", "toy").replace("{version}", "1")
        for method in methods:
            found = table.find(scope(method.upper(), made))
            assert found is not None, (method, path)
            assert found.route.path == path


def test_what_is_not_plain_is_left_to_fastapi():
    table = table_of(create_app(toy_runtime(), name="toy"))
    assert table.find(scope("GET", "/predict")) is None
    assert table.find(scope("POST", "/nothing")) is None
    assert table.find(scope("POST", "/predict", "/below")) is None
    assert table.find(scope("POST", "/v2/models/toy/infer")).queried


def test_made_up_names_do_not_fill_the_memory():
    table = table_of(create_app(toy_runtime(), name="toy"))
    for number in range(MOST_KNOWN + 50):
        assert table.find(scope("POST", f"/models/{number}/predict")).params == {"name": str(number)}
    assert len(table._known) == MOST_KNOWN
