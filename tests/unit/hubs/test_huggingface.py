"""The Hugging Face Hub through its own client, against a stand-in that speaks its HTTP API."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError
from headstart.core.files import sha256
from headstart.core.progress import Quiet
from headstart.hubs.huggingface import Huggingface
from headstart.stages.networks import open_network
from tests.standins._http import Fault
from tests.standins.huggingface import MEMBER, TOKEN, commit
from tests.unit.hubs.conftest import change, graph, save, write_json

BERT = Backbone("huggingface", "me/tiny-bert")


def fetch(name: str = "me/tiny-bert", **more):
    return Huggingface().fetch(Backbone("huggingface", name, **more), Quiet())


def test_a_model_is_fetched_pinned_and_runs(hub, repositories):
    network = fetch()
    pinned = network.backbone
    assert pinned.revision == commit(repositories / "me" / "tiny-bert")
    assert pinned.checksum == sha256(repositories / "me" / "tiny-bert" / "model.safetensors")
    assert (pinned.width, pinned.modality, pinned.uses, pinned.licence) == (32, "text", ("embed",), "Apache-2.0")
    names = {str(each.relative_to(network.folder)) for each in network.folder.rglob("*") if each.is_file()}
    assert names == {
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
    }
    opened = open_network(f"hf:me/tiny-bert@{pinned.revision}", pinned.checksum, Quiet())
    ids = {"ids": np.array([2, 7, 3], np.int32), "lengths": np.array([3], np.int32)}
    assert opened.session.run(ids)["embedding"].shape == (1, 32)


def test_a_commit_that_is_here_needs_no_network(hub):
    pinned = fetch().backbone
    hub.log.clear()
    assert fetch(revision=pinned.revision, checksum=pinned.checksum).backbone == pinned
    assert hub.log == []


def test_the_default_branch_follows_the_hub(hub, repositories):
    first = fetch().backbone
    change(repositories / "me" / "tiny-bert", layer_norm_eps=1e-9)
    second = fetch().backbone
    assert second.revision != first.revision
    assert second.checksum == first.checksum
    # The weights did not change, and are not fetched again.
    assert len(hub.asked("GET /cdn/")) == 1


def test_a_named_revision(hub, repositories):
    shutil.copytree(repositories / "me" / "tiny-bert", repositories / "me" / "tiny-bert@v1")
    change(repositories / "me" / "tiny-bert@v1", layer_norm_eps=1e-9)
    assert fetch(revision="v1").backbone.revision == commit(repositories / "me" / "tiny-bert@v1")
    with pytest.raises(HubError, match="no such revision"):
        fetch(revision="v2")


def test_offline_uses_what_is_here_and_opens_no_socket(hub, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_OFFLINE", "1")
        with pytest.raises(HubError, match="not on this machine, and the network is switched off"):
            fetch()
        assert Huggingface().search("") == []
    first = fetch().backbone
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    hub.log.clear()
    assert fetch().backbone == first
    assert [each.name for each in Huggingface().search("tiny")] == ["me/tiny-bert"]
    assert Huggingface().search("other") == []
    assert hub.log == []


def test_a_hub_that_is_gone_does_not_matter_for_what_is_here(hub, monkeypatch):
    first = fetch().backbone
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch().backbone == first
    with pytest.raises(HubError, match="cannot be reached") as told:
        fetch("me/another")
    assert "127.0.0.1" not in str(told.value)


def test_a_cut_download_goes_on_and_in_another_process_too(hub, repositories):
    size = (repositories / "me" / "tiny-bert" / "model.safetensors").stat().st_size
    hub.faults.append(Fault("GET /cdn/", cut=size // 2))
    fetch()
    first, second = hub.asked("GET /cdn/")
    assert "range" not in first.headers
    assert second.headers["range"].startswith("bytes=")
    assert first.token == second.token == ""


def test_damage_is_found(hub, repositories):
    network = fetch()
    with pytest.raises(HubError, match="not the pinned ones"):
        fetch(revision=network.backbone.revision, checksum="0" * 64)
    blob = network.weights.resolve()
    blob.write_bytes(blob.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(HubError, match="not the pinned ones") as told:
        fetch(revision=network.backbone.revision, checksum=network.backbone.checksum)
    assert "headstart models rm" in told.value.hint


def test_a_lying_server_is_found_out(hub, repositories):
    shutil.copytree(repositories / "me" / "tiny-bert", repositories / "me" / "lie")
    weights = repositories / "me" / "lie" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    hub.faults.append(Fault("GET /cdn/", status=200, times=99))
    with pytest.raises(HubError, match=r"bytes on the server|arrived damaged"):
        fetch("me/lie")


def test_three_processes_fetch_the_weights_once(hub, tmp_path):
    code = "import sys; from headstart.stages.networks import open_network; from headstart.core.progress import Quiet\n"
    code += "open_network('hf:me/tiny-bert', '', Quiet())"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [each.wait(100) for each in running] == [0, 0, 0]
    assert len(hub.asked("GET /cdn/")) == 1


def test_gated_and_private_models(hub, repositories, monkeypatch):
    for name, about in (("gated", {"gated": "manual"}), ("private", {"private": True})):
        shutil.copytree(repositories / "me" / "tiny-bert", repositories / "me" / name)
        write_json(repositories / "me" / name / ".repo.json", about)
    with pytest.raises(HubError, match="'huggingface:me/gated' is gated") as told:
        fetch("me/gated")
    assert "No token was given" in told.value.allowed
    assert "HF_TOKEN" in told.value.hint
    with pytest.raises(HubError, match="or it is private") as told:
        fetch("me/private")
    assert "HF_TOKEN" in told.value.hint
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(HubError, match="is gated") as told:
        fetch("me/gated")
    assert "not let in" in told.value.allowed
    assert TOKEN not in str(told.value)
    assert fetch("me/private").backbone.width == 32
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    assert fetch("me/gated").backbone.width == 32
    # The token went to the hub, and not to the host that keeps the large files.
    assert hub.asked("GET /me/gated/resolve")[-1].token == MEMBER
    assert all(not each.token for each in hub.asked("/cdn/"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("GET /api/models/me/tiny-bert", status=429, times=99), "asks us to wait"),
        (Fault("GET /cdn", status=429, headers={"Retry-After": "86400"}, times=99), "asks us to wait for 86400 s"),
        (Fault("GET /api/models/me/tiny-bert", status=500, times=99), "status 500"),
        (Fault("GET /api/models/me/tiny-bert", status=403, times=99), "may not do this"),
    ],
    ids=["429", "429 of a large file", "500", "403"],
)
def test_refusals_are_sentences(hub, fault, words):
    hub.faults.append(fault)
    with pytest.raises(HubError, match=words):
        fetch()


def test_what_passes_is_waited_for(hub):
    hub.faults += [
        Fault("GET /cdn", status=503),
        Fault("GET /cdn", status=429, headers={"Retry-After": "0"}),
        Fault("GET /me/tiny-bert/resolve", status=429, headers={"Retry-After": "0"}),
    ]
    assert fetch().backbone.width == 32


def test_names_that_cannot_be(hub):
    with pytest.raises(HubError, match="There is no model"):
        fetch("me/nothing")
    with pytest.raises(HubError, match="is not the name of a model"):
        fetch("a/b/c d")


def test_code_is_not_run_unless_trusted(hub, repositories, monkeypatch):
    change(repositories / "me" / "tiny-bert", auto_map={"AutoModel": "modeling_mine.Mine"})
    (repositories / "me" / "tiny-bert" / "modeling_mine.py").write_text("raise SystemExit('run')")
    with pytest.raises(HubError, match=r"modeling_mine\.py") as told:
        fetch()
    assert "--trust-remote-code" in told.value.hint
    assert hub.asked("GET /cdn/") == []
    monkeypatch.setenv("HEADSTART_TRUST_REMOTE_CODE", "1")
    assert (fetch().folder / "modeling_mine.py").is_file()


def test_weights_in_several_files(hub, repositories):
    at = repositories / "me" / "tiny-bert"
    (at / "model.safetensors").unlink()
    save(at / "model-00001-of-00002.safetensors", a=np.zeros(3, np.float32))
    save(at / "model-00002-of-00002.safetensors", b=np.zeros(4, np.float32))
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    write_json(at / "model.safetensors.index.json", index)
    network = fetch()
    assert network.weights.name == "model.safetensors.index.json"
    assert network.backbone.parameters == 7
    assert len(network.backbone.checksum) == 64
    assert not (network.folder / "pytorch_model.bin").exists()


def test_old_weights_only_where_there_are_no_others(hub, repositories):
    (repositories / "me" / "tiny-bert" / "model.safetensors").unlink()
    assert fetch().weights.name == "pytorch_model.bin"


def test_a_timm_model(hub):
    network = fetch("timm/resnet-tiny")
    assert (network.library, network.architecture, network.labels) == ("timm", "resnet10t", ("cat", "dog", "bird"))
    assert network.backbone.modality == "image"
    assert (network.backbone.width, network.backbone.uses) == (512, ("classify", "embed"))
    assert network.preprocessing["size"] == 201
    assert network.preprocessing["crop"] == [176, 176]
    assert network.preprocessing["interpolation"] == "bicubic"


def test_a_diffusers_pipeline(hub, repositories):
    at = repositories / "me" / "painter"
    write_json(
        at / "model_index.json", {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "U"], "x": None}
    )
    write_json(at / "unet" / "config.json", {})
    save(at / "unet" / "diffusion_pytorch_model.safetensors", a=np.zeros(3, np.float32))
    save(at / "unet" / "diffusion_pytorch_model.fp16.safetensors", a=np.zeros(3, np.float16))
    save(at / "v1-pruned.safetensors", a=np.zeros(9, np.float32))
    network = fetch("me/painter")
    assert (network.library, network.architecture) == ("diffusers", "StableDiffusionPipeline")
    assert network.backbone.uses == ("imagine",)
    assert sorted(each.name for each in network.folder.rglob("*.safetensors")) == [
        "diffusion_pytorch_model.safetensors"
    ]


def test_an_onnx_model_where_there_is_nothing_else(hub, repositories):
    at = repositories / "me" / "graph"
    write_json(at / "notes.json", {})
    (at / "model.onnx").write_bytes(graph([1, 3, 64, 64], [1, 7]))
    (at / "README.md").write_text("# no metadata")
    network = fetch("me/graph")
    assert (network.library, network.backbone.modality, network.backbone.width) == ("onnx", "image", 7)
    assert network.preprocessing["crop"] == [64, 64]
    (at / "other.txt").write_text("x")
    (at / "model.onnx").rename(at / "state.pth")
    with pytest.raises(HubError, match="weights alone") as told:
        fetch("me/graph")
    assert "--weights" in told.value.hint


def test_search(hub, repositories):
    fetch()
    found = {each.name: each for each in Huggingface().search("")}
    assert set(found) == {"me/tiny-bert", "timm/resnet-tiny"}
    assert found["me/tiny-bert"].cached
    assert not found["timm/resnet-tiny"].cached
    assert found["timm/resnet-tiny"].licence == "CC-BY-NC-4.0"
    assert found["timm/resnet-tiny"].parameters == 3 * 512
    assert [each.name for each in Huggingface().find("", "image")] == ["timm/resnet-tiny"]
    assert Huggingface().find("bert", "image") == []
    write_json(repositories / "me" / "tiny-bert" / ".repo.json", {"model-index": _results(0.913)})
    assert {each.accuracy for each in Huggingface().search("tiny-bert")} == {91.3}


def _results(value: float) -> list[dict]:
    metric = {"type": "accuracy", "value": value, "name": "Accuracy"}
    return [{"name": "m", "results": [{"task": {"type": "x"}, "dataset": {"name": "d"}, "metrics": [metric]}]}]


def test_what_is_held_can_be_removed(hub, repositories):
    first = fetch().backbone
    change(repositories / "me" / "tiny-bert", layer_norm_eps=1e-9)
    second = fetch().backbone
    fetch("timm/resnet-tiny")
    held = Huggingface().held()
    assert sorted((each.backbone.name, each.backbone.modality, each.backbone.width) for each in held) == [
        ("me/tiny-bert", "text", 32),
        ("me/tiny-bert", "text", 32),
        ("timm/resnet-tiny", "image", 512),
    ]
    assert all(each.place.is_dir() and each.size > 1000 for each in held)
    assert Huggingface().remove(first) > 0
    assert [each.backbone.revision for each in Huggingface().held() if "bert" in each.backbone.name] == [
        second.revision
    ]
    freed = Huggingface().remove(BERT)
    assert freed > second.size
    with pytest.raises(HubError, match="is not on this machine"):
        Huggingface().remove(BERT)
    assert [each.backbone.name for each in Huggingface().held()] == ["timm/resnet-tiny"]


def test_what_it_is_made_for(hub, repositories):
    at = repositories / "me" / "tiny-bert"
    (at / "modules.json").unlink()
    for name, labels, uses in (
        ("BertForMaskedLM", None, ("fill_mask", "embed")),
        ("BertForSequenceClassification", {"0": "bad", "1": "good"}, ("classify", "embed")),
        ("BertForSequenceClassification", {"0": "ENTAILMENT", "1": "x"}, ("classify", "zero_shot", "embed")),
        ("BertForTokenClassification", {"1": "B", "0": "A"}, ("tag_tokens", "embed")),
        ("BertForQuestionAnswering", None, ("answer", "embed")),
        ("BertLMHeadModel", None, ("generate", "embed")),
    ):
        change(at, architectures=[name], id2label=labels)
        network = fetch()
        assert network.backbone.uses == uses
        assert network.labels == (tuple(labels[key] for key in sorted(labels)) if labels else ())
    assert json.loads((network.folder / "config.json").read_text())["architectures"] == ["BertLMHeadModel"]
