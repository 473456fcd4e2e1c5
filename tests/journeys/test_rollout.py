"""Several models behind one address, and versions of them that come and go: real processes, real commands."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx2
import pytest

from headstart.core.progress import Quiet
from headstart.stages.serve import opener_of
from tests.journeys.test_main_job import TICKET


@contextmanager
def served(*arguments):
    """Run `headstart serve`, and yield a client, the process and what it has said on standard error so far."""
    command = [sys.executable, "-m", "headstart", "serve", *map(str, arguments), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said: list[str] = []
        listening = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)
        listening.start()
        try:
            line = process.stdout.readline()
            assert line, said
            with httpx2.Client(base_url=json.loads(line)["url"], timeout=60) as client:
                yield client, process, said
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
        finally:
            process.kill()
            listening.join(10)
        assert "Traceback" not in "".join(said)


def admin_of(said):
    """Return the admin API's address, as the server says it."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = [line.rpartition("--admin ")[2].strip() for line in said if "--admin " in line]
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(said)


def test_bundles_on_one_backbone_share_it(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "other")
    opener = opener_of("", Quiet())
    one, two = opener(str(bundle)), opener(str(tmp_path / "other"))
    assert one.sessions["text"] is two.sessions["text"]
    assert one.predict_rows([TICKET]) == two.predict_rows([TICKET])


def test_versions_come_and_go_and_no_request_fails(bundle, headstart):
    with served(f"tickets={bundle}", f"second={bundle}", "--admin-port", "0") as (client, _, said):
        admin = admin_of(said)
        statuses: list[int] = []
        ending = threading.Event()

        def ask():
            with httpx2.Client(base_url=client.base_url, timeout=60) as own:
                while not ending.is_set():
                    statuses.append(own.post("/models/tickets/predict", json=TICKET).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        steps = [
            ("canary", "tickets", bundle, "--weight", "0.5"),
            ("promote", "tickets"),
            ("shadow", "tickets", bundle),
            ("rollback", "tickets"),
            ("load", "tickets", bundle),
            ("rollback", "tickets"),
        ]
        for step in steps:
            told = headstart("rollout", *step, "--admin", admin, "--json")
            assert told.code == 0, told.err
        status = headstart("rollout", "status", "--admin", admin)
        wrong = headstart("rollout", "promote", "tickets", "--admin", admin)
        nothing = headstart("rollout", "load", "tickets", "no/such/bundle", "--admin", admin)
        ending.set()
        asking.join(60)
        assert len(statuses) > 5
        assert set(statuses) == {200}
        assert ["live" in line for line in status.out.splitlines()].count(True) == 2
        assert (wrong.code, nothing.code) == (2, 2)
        assert "neither a canary nor a shadow" in wrong.err
        assert "no bundle at" in nothing.err
        names = [each["name"] for each in client.get("/models").json()["models"]]
        assert names == ["tickets", "second"]


def test_a_folder_is_followed(bundle, tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(bundle, folder / "first")
    with served("--model-folder", folder) as (client, process, _):
        assert client.post("/predict", json=TICKET).status_code == 200
        shutil.copytree(bundle, tmp_path / "part")
        (tmp_path / "part").rename(folder / "second")
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 60
        while len(client.get("/models").json()["models"]) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        assert client.post("/models/second/predict", json=TICKET).status_code == 200
        shutil.rmtree(folder / "first")
        while len(client.get("/models").json()["models"]) > 1 and time.monotonic() < until:
            time.sleep(0.1)
        assert client.post("/models/first/predict", json=TICKET).status_code == 404
        assert client.post("/predict", json=TICKET).json()["department"] == "Shipping & Delivery"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no model to serve"),
        (("{bundle}", "{bundle}"), "Two models are called"),
        (("a/b={bundle}",), "no bundle at"),
        (("{empty}",), "neither a bundle nor a folder of bundles"),
    ],
)
def test_what_cannot_be_served(bundle, headstart, tmp_path, arguments, words):
    empty = tmp_path / "empty"
    empty.mkdir()
    told = headstart(
        "serve", *(each.format(bundle=bundle, empty=empty) for each in arguments), "--port", "0", "--quiet"
    )
    assert told.code in (2, 4)
    assert words in told.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status",), "no admin API at"),
        (("status", "--admin", "nonsense"), "no address"),
        (("load", "x"), "needs a bundle's folder"),
        (("promote",), "needs a model's name"),
        (("canary", "x", "y"), "needs its share"),
        (("load", "x", "y", "--weight", "0.5"), "--weight is for canaries"),
    ],
)
def test_rollout_says_what_is_missing(headstart, arguments, words):
    admin = () if "--admin" in arguments else ("--admin", "http://127.0.0.1:9")
    told = headstart("rollout", *arguments, *admin)
    assert told.code in (2, 7)
    assert words in told.err
