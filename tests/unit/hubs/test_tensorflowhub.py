"""Kaggle Models through kagglehub itself, against a stand-in that speaks its API."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("kagglehub")

from headstart.core.backbone import Backbone
from headstart.core.download import locked
from headstart.core.errors import HubError, UsageError
from headstart.core.files import cache_folder
from headstart.core.progress import Quiet
from headstart.hubs.tensorflowhub import Tensorflowhub
from tests.standins import kaggle
from tests.standins._http import Fault
from tests.unit.hubs.conftest import graph

NAME = "google/mobilenet-v2/onnx/100-96-classification"


@pytest.fixture
def models(tmp_path, monkeypatch):
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "HEADSTART_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    for version in ("1", "2"):
        at = tmp_path / "models" / NAME / version
        at.mkdir(parents=True)
        (at / "model.onnx").write_bytes(graph([1, 3, 96, 96], [1, 2]))
        (at / "labels.txt").write_text(f"cat\ndog{version}\n")
    # kagglehub knows one port only, which the workers of a parallel test run share.
    with locked(cache_folder().parent / "kaggle.lock"), kaggle.serving(tmp_path / "models") as address:
        yield address


def fetch(name=NAME, **more):
    return Tensorflowhub().fetch(Backbone("tensorflowhub", name, **more), Quiet())


def test_the_newest_version_is_fetched_and_pinned(models):
    network = fetch()
    assert network.backbone.reference == f"tensorflowhub:{NAME}@2"
    assert list(network.labels) == ["cat", "dog2"]
    assert network.library == "onnx"
    assert network.backbone.uses == ("classify", "embed")
    assert network.preprocessing["size"] == [96, 96]
    pinned = network.backbone
    models.log.clear()
    assert fetch(revision="2", checksum=pinned.checksum).backbone == pinned
    assert models.log == []
    with pytest.raises(HubError, match="not the pinned ones"):
        fetch(revision="2", checksum="0" * 64)


def test_a_named_version(models):
    assert fetch(f"{NAME}/1").backbone == fetch(revision="1").backbone
    assert list(fetch(revision="1").labels) == ["cat", "dog1"]
    with pytest.raises(HubError, match="There is no model"):
        fetch(revision="7")


def test_offline(models, monkeypatch):
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    with pytest.raises(HubError, match="network is switched off"):
        fetch()
    assert Tensorflowhub().search("") == []
    monkeypatch.setenv("HEADSTART_OFFLINE", "0")
    network = fetch()
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    models.log.clear()
    assert fetch().backbone == network.backbone
    assert [each.name for each in Tensorflowhub().search("mobilenet")] == [NAME]
    assert models.log == []


def test_what_passes_is_tried_again(models):
    models.faults.append(Fault("GetModelInstance", status=503))
    models.faults.append(Fault("GET /storage", cut=7))
    assert fetch().backbone.revision == "2"


def test_damage_on_the_way_is_found(models, monkeypatch):
    models.faults.append(Fault("GET /storage", status=200, headers={"x-goog-hash": "md5=AAAA"}, times=99))
    with pytest.raises(HubError, match="arrived damaged"):
        fetch()
    assert Tensorflowhub().held() == []


def test_what_is_private_asks_for_a_token(models, tmp_path, monkeypatch):
    (tmp_path / "models" / NAME / "PRIVATE").touch()
    with pytest.raises(HubError, match="may not be fetched") as told:
        fetch()
    assert "KAGGLE_API_TOKEN" in told.value.hint
    monkeypatch.setenv("KAGGLE_API_TOKEN", kaggle.TOKEN)
    assert fetch().backbone.revision == "2"
    assert models.asked("GetModelInstance")[-1].token == kaggle.TOKEN


def test_names_that_cannot_be(models, monkeypatch):
    with pytest.raises(UsageError, match="not the name of a model"):
        fetch("google/mobilenet-v2")
    with pytest.raises(UsageError, match="Versions are numbers"):
        fetch(revision="main")
    with pytest.raises(UsageError, match="not the name of a model"):
        fetch("google/../../x")
    with pytest.raises(HubError, match="not the name of a model"):
        fetch("google/mobilenet-v2/abacus/x")
    with pytest.raises(HubError, match="There is no model"):
        fetch("google/nothing/onnx/x")


def test_search_and_what_is_held(models):
    assert [each.name for each in Tensorflowhub().search("mobile")] == [NAME]
    found = Tensorflowhub().search("")[0]
    assert (found.licence, found.cached, found.modality) == ("Apache-2.0", False, "image")
    assert Tensorflowhub().search("nothing") == []
    fetch()
    assert Tensorflowhub().search("")[0].cached
    held = Tensorflowhub().held()
    assert [each.backbone.reference for each in held] == [f"tensorflowhub:{NAME}@2"]
    assert Tensorflowhub().remove(Backbone("tensorflowhub", NAME)) == held[0].size
    with pytest.raises(HubError, match="not on this machine"):
        Tensorflowhub().remove(Backbone("tensorflowhub", NAME))


def test_two_processes_fetch_it_once(models):
    code = f"from headstart.stages.models import pull\nprint(pull('kaggle:{NAME}')['reference'])"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    assert {each.communicate(timeout=100)[0] for each in running} == {f"tensorflowhub:{NAME}@2\n"}
    assert len(models.asked("GET /storage")) == 2
