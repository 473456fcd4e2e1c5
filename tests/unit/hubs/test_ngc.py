"""NVIDIA NGC against a stand-in that speaks its REST API."""

from __future__ import annotations

import zipfile

import pytest

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError, UsageError
from headstart.core.progress import Quiet
from headstart.hubs.ngc import Ngc
from tests.standins import ngc
from tests.standins._http import Fault
from tests.unit.hubs.conftest import graph

NAME = "nvidia/tao/peoplenet"


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    for name in ("NGC_API_KEY", "NGC_AUTH_ENDPOINT", "HEADSTART_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    for version in ("1.0", "1.9", "1.10"):
        at = tmp_path / "ngc" / NAME / version
        (at / "more").mkdir(parents=True)
        (at / "model.onnx").write_bytes(graph([1, 3, 64, 64], [1, 2]))
        (at / "labels.txt").write_text(f"person\nbag {version}\n")
        (at / "more" / "read me.txt").write_text("x")
    with ngc.serving(tmp_path / "ngc") as address:
        monkeypatch.setenv("NGC_API_ENDPOINT", address)
        yield address


def fetch(name=NAME, **more):
    return Ngc().fetch(Backbone("ngc", name, **more), Quiet())


def test_the_newest_version_is_fetched_and_pinned(catalogue):
    network = fetch()
    assert network.backbone.reference == f"ngc:{NAME}@1.10"
    assert (network.library, list(network.labels)) == ("onnx", ["person", "bag 1.10"])
    assert (network.folder / "more" / "read me.txt").read_text() == "x"
    catalogue.log.clear()
    assert fetch(revision="1.10", checksum=network.backbone.checksum).backbone == network.backbone
    assert catalogue.log == []
    with pytest.raises(HubError, match="not the pinned ones"):
        fetch(revision="1.10", checksum="0" * 64)


def test_a_named_version(catalogue):
    assert fetch(f"{NAME}:1.9").backbone == fetch(revision="1.9").backbone
    assert list(fetch(revision="1.0").labels) == ["person", "bag 1.0"]
    with pytest.raises(HubError, match="status 404"):
        fetch(revision="7")


def test_cuts_lies_and_refusals(catalogue, tmp_path):
    catalogue.faults += [Fault("GET /storage", cut=7), Fault("/versions", status=503)]
    assert fetch().backbone.revision == "1.10"
    cut = [each for each in catalogue.asked("GET /storage") if "range" in each.headers]
    assert len(cut) == 1
    catalogue.faults.append(Fault("GET /storage", status=200, times=99))
    with pytest.raises(HubError, match=r"bytes on the server|arrived damaged"):
        fetch(revision="1.9")
    assert [each.backbone.revision for each in Ngc().held()] == ["1.10"]


def test_a_key_opens_what_is_not_public(catalogue, tmp_path, monkeypatch):
    (tmp_path / "ngc" / NAME / "PRIVATE").touch()
    with pytest.raises(HubError, match="without a key") as told:
        fetch()
    assert "NGC_API_KEY" in told.value.hint
    monkeypatch.setenv("NGC_API_KEY", "wrong-key")
    with pytest.raises(HubError, match="with this key") as told:
        fetch()
    assert "wrong-key" not in str(told.value)
    for number, key in enumerate((ngc.KEY, ngc.PERSONAL)):
        monkeypatch.setenv("NGC_API_KEY", key)
        assert fetch(revision=f"1.{9 * number}").backbone.revision == f"1.{9 * number}"
    assert len(catalogue.asked("GET /token")) == 2
    assert {each.token for each in catalogue.asked("GET /v2/org")} == {ngc.TOKEN, ngc.PERSONAL}
    assert all(not each.token for each in catalogue.asked("/storage"))


def test_offline(catalogue, monkeypatch):
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    with pytest.raises(HubError, match="network is switched off"):
        fetch()
    monkeypatch.setenv("HEADSTART_OFFLINE", "0")
    fetch(revision="1.9")
    fetch(revision="1.10")
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    catalogue.log.clear()
    assert fetch().backbone.revision == "1.10"
    assert [each.name for each in Ngc().search("people")] == [NAME]
    assert catalogue.log == []


def test_an_archive_is_unpacked(catalogue, tmp_path):
    at = tmp_path / "ngc" / "nvidia" / "tao" / "packed" / "1"
    at.mkdir(parents=True)
    with zipfile.ZipFile(at / "packed_v1.zip", "w") as archive:
        archive.writestr("model.onnx", graph([1, 3, 64, 64], [1, 5]))
    assert fetch("nvidia/tao/packed").backbone.width == 5
    with zipfile.ZipFile(at / "packed_v1.zip", "w") as archive:
        archive.writestr("../../model.onnx", b"x")
    Ngc().remove(Backbone("ngc", "nvidia/tao/packed"))
    with pytest.raises(HubError, match="is not unpacked"):
        fetch("nvidia/tao/packed")


def test_search_and_what_is_held(catalogue):
    found = Ngc().search("people")
    assert [(each.name, each.size, each.cached) for each in found] == [(NAME, 123456, False)]
    fetch()
    assert Ngc().search("people")[0].cached
    held = Ngc().held()
    assert [each.backbone.reference for each in held] == [f"ngc:{NAME}@1.10"]
    assert Ngc().remove(Backbone("ngc", NAME)) == held[0].size
    with pytest.raises(HubError, match="not on this machine"):
        Ngc().remove(Backbone("ngc", NAME))


def test_names_that_cannot_be(catalogue):
    for name in ("peoplenet", "nvidia/../x", "a/b/c/d"):
        with pytest.raises(UsageError, match="not the name of a model"):
            fetch(name)
    with pytest.raises(UsageError, match="has the version"):
        fetch(revision="../1")
    with pytest.raises(HubError, match="There is no"):
        fetch("nvidia/tao/nothing")
