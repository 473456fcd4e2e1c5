"""Small networks without weights, made on this machine, that learn to write down speech."""

from __future__ import annotations

import json

import pytest

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError
from headstart.core.progress import Quiet
from headstart.hubs import _ctc
from headstart.hubs.builtin import Builtin
from headstart.hubs.local import Local
from headstart.pipelines import _ctc as spelling


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path


def fetch(name: str, **changes):
    return Builtin().fetch(Backbone("builtin", name, **changes), Quiet())


def test_they_are_listed_and_made_without_a_download(cache):
    assert [each.name for each in Builtin().search("CTC")] == ["ctc-small", "ctc-silero"]
    network = fetch("ctc-small")
    assert network.library == "ctc"
    assert network.backbone.uses == ("transcribe",)
    assert network.weights.name == "config.json"
    assert network.labels == ()
    assert spelling.stride(network) == 320
    assert fetch("ctc-small") == network
    assert fetch("ctc-silero", weights="v.safetensors").backbone.weights == "v.safetensors"
    # They are not shown as models that take room, and are pinned as others are.
    assert [each for each in Builtin().held() if "ctc" in each.backbone.name] == []
    with pytest.raises(HubError, match="revision '2'"):
        fetch("ctc-small", revision="2")
    with pytest.raises(HubError, match="'ctc-small'"):
        fetch("ctc-smal")


def test_a_changed_folder_is_made_again(cache):
    folder = fetch("ctc-small").folder
    (folder / "config.json").write_text("{}")
    assert fetch("ctc-small").config == _ctc.NETWORKS["ctc-small"]


def test_a_trained_folder_opens_with_its_letters(cache):
    folder = cache / "trained"
    folder.mkdir()
    labels = ["<pad>", "|", "a", "b"]
    (folder / "config.json").write_text(json.dumps({**_ctc.NETWORKS["ctc-small"], "labels": labels}))
    (folder / "model.safetensors").write_bytes(b"weights")
    network = Local().fetch(Backbone("local", str(folder)), Quiet())
    assert network.weights.name == "model.safetensors"
    assert network.preprocessing == {"sampling_rate": 16_000, "do_normalize": True}
    known = spelling.alphabet(network)
    assert (known.letters, known.blank, known.space) == ({0: "", 1: "|", 2: "a", 3: "b"}, 0, "|")
