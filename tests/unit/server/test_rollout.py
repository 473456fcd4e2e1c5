"""Versions come, take over and go while requests are answered: by the admin API, from a folder."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time

import httpx2
import pytest
from starlette.testclient import TestClient

from headstart.core.bundle import MANIFEST
from headstart.core.errors import BundleError
from headstart.server.admin import create_admin
from headstart.server.app import create_app
from headstart.server.limits import Limits
from headstart.server.models.folder import Folder, bundles_in
from headstart.server.models.rollout import Rollout
from headstart.server.service import Service
from headstart.testing.toys import toy_runtime


def opener(path):
    """Open a toy; its path says how slow it is, or that it is broken."""
    if "broken" in path:
        raise BundleError(f"There is no bundle at '{path}'.")
    if "other" in path:
        return toy_runtime(("other",))
    return toy_runtime(delay=0.05 if "slow" in path else 0.0)


@pytest.fixture
def served():
    """Return clients of an app and of its admin API, in one event loop."""
    app = create_app({"toy": toy_runtime()}, opener=opener)
    with TestClient(app) as client:
        admin = TestClient(create_admin(app.state.rollout))
        admin.portal = client.portal
        yield client, admin


def roles(admin):
    return {
        model["name"]: {each["version"]: (each["role"], each["weight"]) for each in model["versions"]}
        for model in admin.get("/models").json()["models"]
    }


def versions(client):
    """Return the versions that have answered, with their rows."""
    found = {}
    for line in client.get("/metrics").text.splitlines():
        if line.startswith("headstart_rows_total{"):
            found[line.partition('version="')[2].partition('"')[0]] = float(line.rpartition(" ")[2])
    return found


def test_a_version_is_loaded_and_rolled_back(served):
    client, admin = served
    assert roles(admin) == {"toy": {"1": ("live", 1)}}
    told = admin.post("/models/toy/load", json={"path": "two"})
    assert told.json() == {"name": "toy", "version": "2", "role": "live"}
    client.post("/predict", json="x")
    assert versions(client)["2"] == 1
    assert roles(admin) == {"toy": {"1": ("previous", 0), "2": ("live", 1)}}
    assert admin.post("/models/toy/rollback").json()["live"] == "1"
    assert admin.post("/models/toy/load", json={"path": "three"}).json()["version"] == "3"


def test_a_canary_gets_its_share(served):
    client, admin = served
    assert admin.post("/models/toy/load", json={"path": "two", "weight": 0.5}).json()["role"] == "canary"
    for number in range(60):
        client.post("/predict", json="x", headers={"x-request-id": str(number)})
    counts = versions(client)
    assert 15 < counts["2"] < 45
    assert 'headstart_version_weight_ratio{model="toy",version="2"} 0.5' in client.get("/metrics").text
    assert admin.post("/models/toy/promote").json()["live"] == "2"


def test_a_shadow_is_asked_too_and_delays_nobody(served):
    client, admin = served
    admin.post("/models/toy/load", json={"path": "slow", "shadow": True})
    started = time.perf_counter()
    for each in range(3):
        client.post("/predict", json={"rows": [f"text {each}", "another"]})
    asked = time.perf_counter() - started
    until = time.monotonic() + 10
    agreed = 'headstart_shadow_rows_total{model="toy",outcome="agree",version="2"} 6.0'
    while agreed not in client.get("/metrics").text and time.monotonic() < until:
        time.sleep(0.02)
    assert agreed in client.get("/metrics").text
    assert asked < 5


def test_a_shadow_that_cannot_answer_is_told_of_once(served, caplog):
    client, admin = served
    admin.post("/models/toy/load", json={"path": "other columns", "shadow": True})
    for _ in range(3):
        assert client.post("/predict", json={"text": "x"}).status_code == 200
    until = time.monotonic() + 10
    failed = 'headstart_shadow_rows_total{model="toy",outcome="failed",version="2"} 3.0'
    while failed not in client.get("/metrics").text and time.monotonic() < until:
        time.sleep(0.02)
    assert failed in client.get("/metrics").text
    told = [each for each in caplog.records if "The shadow 2 of 'toy' cannot answer" in each.message]
    assert len(told) == 1 and told[0].exc_info is not None


def test_another_name(served):
    client, admin = served
    admin.post("/models/new/load", json={"path": "x"})
    assert client.post("/models/new/predict", json="x").status_code == 200
    assert client.post("/predict", json="x").status_code == 404
    assert admin.post("/models/new/unload").json() == {"name": "new", "unloaded": "all versions"}
    assert client.post("/models/new/predict", json="x").status_code == 404
    assert client.post("/predict", json="x").status_code == 200
    assert admin.post("/models/new/load", json={"path": "x"}).json()["version"] == "2"


def test_what_cannot_be_loaded_changes_nothing(served):
    client, admin = served
    answer = admin.post("/models/toy/load", json={"path": "broken"})
    assert answer.status_code == 422
    assert "no bundle at 'broken'" in answer.json()["error"]["message"]
    assert roles(admin) == {"toy": {"1": ("live", 1)}}
    assert client.post("/predict", json="x").status_code == 200


@pytest.mark.parametrize(
    ("verb", "body", "status", "words"),
    [
        ("load", {}, 422, "no 'path'"),
        ("load", {"path": 3}, 422, "'path' is a number"),
        ("load", {"path": "x", "weight": 2}, 400, "weight is 2"),
        ("load", {"path": "x", "weight": 0}, 400, "weight is 0"),
        ("load", {"path": "x", "weight": True}, 422, "'weight' is true or false"),
        ("load", {"path": "x", "weight": 0.1, "shadow": True}, 422, "a shadow has no 'weight'"),
        ("load", {"path": "x", "wieght": 0.1}, 400, "no field 'wieght'"),
        ("load", [], 422, "a list"),
        ("promote", {}, 400, "neither a canary"),
        ("rollback", {}, 400, "no version to go back to"),
        ("unload", {"version": "1"}, 400, "live"),
        ("unload", {"version": "8"}, 404, "no version '8'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(served, verb, body, status, words):
    _, admin = served
    answer = admin.post(f"/models/toy/{verb}", json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_a_canary_of_nothing(served):
    _, admin = served
    assert admin.post("/models/nothing/load", json={"path": "x", "weight": 0.1}).status_code == 404


def test_web_pages_are_refused(served):
    _, admin = served
    answer = admin.post("/models/toy/load", json={"path": "two"}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    assert roles(admin) == {"toy": {"1": ("live", 1)}}


def test_requests_go_on_while_versions_come_and_go(serving):
    with serving(toy_runtime(delay=0.002), opener=opener) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        ending, statuses = threading.Event(), []

        def ask(number):
            with httpx2.Client(base_url=client.base_url, timeout=30) as own:
                while not ending.is_set():
                    statuses.append(own.post("/predict", json=f"text {number}").status_code)

        def change(coroutine):
            before, until = len(statuses), time.monotonic() + 10
            asyncio.run_coroutine_threadsafe(coroutine, client.loop).result(30)
            while len(statuses) < before + 20 and time.monotonic() < until:
                time.sleep(0.01)

        asked = [pool.submit(ask, number) for number in range(4)]
        for path in ("two", "slow three", "four"):
            change(client.rollout.load("toy", path))
        change(client.rollout.rollback("toy"))
        ending.set()
        for each in asked:
            each.result(30)
        assert len(statuses) >= 80
        assert set(statuses) == {200}
        until = time.monotonic() + 10
        while 'version="1"' in client.get("/metrics").text and time.monotonic() < until:
            time.sleep(0.05)
        assert 'version="1"' not in client.get("/metrics").text  # it has gone, and its measures with it


def bundle(folder, name, content="{}"):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "part").write_text(content)
    os.replace(folder / name / "part", folder / name / MANIFEST)


def test_a_folder_is_followed(tmp_path, caplog):
    async def main():
        service = Service(Limits())
        rollout = Rollout(service, opener)
        service.batcher.start()
        folder = Folder(tmp_path, seen=bundles_in(tmp_path))
        try:
            bundle(tmp_path, "one")
            bundle(tmp_path, ".part")
            (tmp_path / "no bundle").mkdir()
            await folder.follow(rollout)
            assert service.shelf.names() == ["one"]
            await folder.follow(rollout)
            assert service.shelf.find("one").version == "1"
            bundle(tmp_path, "one", "{ }")
            bundle(tmp_path, "broken")
            await folder.follow(rollout)
            assert service.shelf.names() == ["one"]
            assert service.shelf.find("one").version == "2"
            await folder.follow(rollout)
            (tmp_path / "one" / MANIFEST).unlink()
            await folder.follow(rollout)
            assert service.shelf.names() == []
        finally:
            await service.stop()

    asyncio.run(main())
    assert caplog.text.count("is not served") == 1


def test_a_folder_that_is_not_there_is_empty(tmp_path):
    assert bundles_in(tmp_path / "nothing") == {}
