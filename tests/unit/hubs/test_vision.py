"""The hubs of image models: fetched from stand-ins, found in the ecosystems' own caches, refused in sentences."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")

from headstart.core.backbone import Backbone  # noqa: E402
from headstart.core.errors import HubError, UsageError  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.keras import Keras  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.hubs.timm import Timm  # noqa: E402
from headstart.hubs.torchhub import Torchhub  # noqa: E402
from headstart.hubs.torchvision import Torchvision  # noqa: E402
from tests.standins._http import Answer, Fault, ranged, serve  # noqa: E402
from tests.standins.huggingface import serving  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Tiny(torch.nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(3, 6, 3), torch.nn.Linear(6, num_classes)

    def forward(self, x: Any) -> Any:
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    for name in ("TORCH_HOME", "KERAS_HOME", "HF_HOME", "HEADSTART_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name.casefold()))
    for name in ("HEADSTART_OFFLINE", "HF_HUB_OFFLINE", "HEADSTART_TRUST_REMOTE_CODE"):
        monkeypatch.delenv(name, raising=False)


def fetched(hub: Any, reference: str, weights: Any = ""):
    return hub().fetch(replace(Backbone.parse(reference), weights=str(weights)), Quiet())


# torchvision


@pytest.fixture(scope="module")
def tiny():
    """Register a small model with torchvision, as a package of its own would, and return its weights' bytes."""
    from functools import partial

    from torchvision.models import Weights, WeightsEnum
    from torchvision.models._api import BUILTIN_MODELS, register_model
    from torchvision.transforms._presets import ImageClassification

    torch.manual_seed(0)
    to = io.BytesIO()
    torch.save(Tiny().state_dict(), to)
    told = hashlib.sha256(to.getvalue()).hexdigest()[:8]
    labels = [f"class {number}" for number in range(1000)]

    def weights(url: str, **size: int) -> Weights:
        meta = {
            "categories": labels,
            "num_params": 6168,
            "_metrics": {"ImageNet-1K": {"acc@1": 12.5}},
            "_file_size": 0.03,
        }
        return Weights(url=url, transforms=partial(ImageClassification, crop_size=24, **size), meta=meta)

    class TinyWeights(WeightsEnum):
        IMAGENET1K_V1 = weights(f"https://weights.invalid/models/tiny-{told}.pth", resize_size=32)
        IMAGENET1K_V2 = weights("https://weights.invalid/models/tiny-00000000.pth", resize_size=28)
        DEFAULT = IMAGENET1K_V1

    def tiny_net(*, weights: Any = None, progress: bool = True, **options: Any) -> Tiny:
        return Tiny(**options)

    tiny_net.__annotations__["weights"] = TinyWeights | None
    tiny_net.__module__ = "torchvision.models.tiny"
    register_model()(tiny_net)
    yield to.getvalue()
    del BUILTIN_MODELS["tiny_net"]


@pytest.fixture
def mirror(tiny, monkeypatch):
    with serve(
        lambda request: ranged(request, tiny, ETag='"1"') if request.path.endswith(".pth") else Answer(404)
    ) as url:
        monkeypatch.setenv("TORCHVISION_ENDPOINT", f"{url}/mirror")
        yield url


def test_published_weights_are_fetched_once_into_torchs_cache(mirror, tmp_path):
    network = fetched(Torchvision, "torchvision:tiny_net")
    assert network.weights.parent == tmp_path / "torch_home" / "hub" / "checkpoints"
    assert [each.path for each in mirror.log][-1].startswith("/mirror/models/tiny-")
    backbone = network.backbone
    assert (backbone.revision, backbone.width, backbone.parameters) == ("IMAGENET1K_V1", 6, 6168)
    assert (backbone.accuracy, backbone.licence) == (12.5, "BSD-3-Clause")
    assert network.labels[7] == "class 7"
    assert (network.preprocessing["size"], network.preprocessing["crop"]) == (32, [24, 24])
    asked = len(mirror.log)
    os.environ["HEADSTART_OFFLINE"] = "1"
    try:
        assert fetched(Torchvision, "torchvision:tiny_net").backbone == backbone
    finally:
        del os.environ["HEADSTART_OFFLINE"]
    assert len(mirror.log) == asked
    assert [each.backbone.reference for each in Torchvision().held()] == ["torchvision:tiny_net@IMAGENET1K_V1"]
    assert Torchvision().remove(Backbone.parse("torchvision:tiny_net")) == backbone.size
    assert Torchvision().held() == []


def test_a_wrong_checksum_in_the_name_is_noticed(mirror):
    with pytest.raises(HubError, match="damaged: their SHA-256 begins with"):
        fetched(Torchvision, "torchvision:tiny_net@IMAGENET1K_V2")


def test_a_cut_is_resumed(mirror, tiny):
    mirror.faults.append(Fault("GET", cut=1000))
    assert fetched(Torchvision, "torchvision:tiny_net").weights.read_bytes() == tiny
    assert mirror.log[-1].headers["range"] == "bytes=1000-"


def test_a_named_file_brings_its_own_preprocessing(tiny, tmp_path):
    (tmp_path / "tiny-00000000.pth").write_bytes(tiny)
    assert fetched(Torchvision, "torchvision:tiny_net", tmp_path / "tiny-00000000.pth").preprocessing["size"] == 28
    (tmp_path / "mine.pth").write_bytes(tiny)
    network = fetched(Torchvision, "torchvision:tiny_net", tmp_path / "mine.pth")
    assert (network.preprocessing["size"], network.backbone.accuracy) == (32, 0)
    pinned = replace(Backbone.parse("torchvision:tiny_net"), weights=str(tmp_path / "mine.pth"), checksum="0" * 64)
    with pytest.raises(HubError, match="not those that are asked for"):
        Torchvision().fetch(pinned, Quiet())


def test_random_weights_must_be_asked_for(tiny, monkeypatch):
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    with pytest.raises(HubError, match="the network is switched off"):
        fetched(Torchvision, "torchvision:tiny_net")
    first = fetched(Torchvision, "torchvision:tiny_net@random")
    first.weights.unlink()
    assert fetched(Torchvision, "torchvision:tiny_net@random").backbone.checksum == first.backbone.checksum
    assert first.backbone.reference == "torchvision:tiny_net@random"


@pytest.mark.parametrize(
    ("reference", "part"),
    [
        ("torchvision:mobilenetv2", "Did you mean 'mobilenet_v2'"),
        ("torchvision:resnet50@V3", "no weights 'V3' of 'resnet50'"),
    ],
)
def test_wrong_names_are_told(reference, part):
    with pytest.raises(HubError) as caught:
        fetched(Torchvision, reference)
    assert part in str(caught.value)


def test_search_knows_accuracy_and_size():
    found = {each.name: each for each in Torchvision().search("resnet5")}
    assert {"resnet50", "fasterrcnn_resnet50_fpn"} <= set(found)
    assert (found["resnet50"].accuracy, found["resnet50"].parameters) == (80.858, 25_557_032)
    assert found["fasterrcnn_resnet50_fpn"].uses == ("detect",)
    swag = {each.name for each in Torchvision().search("") if each.licence == "CC-BY-NC-4.0"}
    assert "resnet50" not in swag


# timm


@pytest.fixture
def repository(tmp_path):
    """Write a small model of timm in the layout of its repositories."""
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    folder = tmp_path / "repositories" / "timm" / "test_resnet.r160_in1k"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False)
    save_file(model.state_dict(), folder / "model.safetensors")
    told = {
        name: each for name, each in timm.get_pretrained_cfg("test_resnet.r160_in1k").to_dict().items() if name != "url"
    }
    config = {"architecture": "test_resnet", "num_classes": 1000, "num_features": 1, "pretrained_cfg": told}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, model.eval()


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "test_resnet", "timm/test_resnet.r160_in1k"])
def test_timm_comes_from_the_hub(name, repository, monkeypatch):
    folder, model = repository
    with serving(folder.parent.parent) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        network = fetched(Timm, f"timm:{name}")
    assert network.library == "timm"
    assert (network.backbone.hub, network.backbone.name) == ("timm", name)
    assert network.backbone.width == model.head_hidden_size
    assert len(network.backbone.revision) == 40
    assert network.labels[1] == "goldfish"
    given = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        out = model(given).numpy()
    found = Torch().open(replace(network, use="classify"), "f32", 1).run({"pixels": given.numpy()})["logits"]
    assert abs(found - out).max() < 1e-4
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    assert fetched(Timm, f"timm:{name}").backbone.checksum == network.backbone.checksum
    assert [each.cached for each in Timm().search("test_resnet.r160_in1k")] == [True]
    assert Timm().remove(Backbone.parse("timm:test_resnet.r160_in1k")) > 1000
    assert [each.cached for each in Timm().search("test_resnet.r160_in1k")] == [False]


def test_timm_names_are_checked():
    pytest.importorskip("timm")
    with pytest.raises(HubError, match="no architecture 'resnet1'"):
        fetched(Timm, "timm:resnet1")
    with pytest.raises(HubError, match="no weights 'a9_in1k' of 'resnet18'"):
        fetched(Timm, "timm:resnet18.a9_in1k")
    assert "resnet18.a1_in1k" in [each.name for each in Timm().search("resnet18.a1")]


# Keras


def test_keras_finds_its_own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("keras")
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    with pytest.raises(HubError, match="network is switched off"):
        fetched(Keras, "keras:MobileNet")
    made = fetched(Keras, "keras:MobileNet@random").weights
    kept = tmp_path / "keras_home" / "models" / "mobilenet_1_0_224_tf.h5"
    kept.parent.mkdir(parents=True)
    made.rename(kept)
    network = fetched(Keras, "keras:mobilenet")
    assert (network.architecture, network.weights, network.backbone.width) == ("MobileNet", kept, 1024)
    assert network.labels[1] == "goldfish"
    assert [each.backbone.name for each in Keras().held()] == ["MobileNet"]


def test_every_application_of_keras_is_known(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    from headstart.hubs._keras import APPLICATIONS

    theirs = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(APPLICATIONS) == theirs


def test_keras_names_are_checked(tmp_path):
    with pytest.raises(HubError, match="Did you mean 'ResNet50'"):
        fetched(Keras, "keras:ResNet5")
    with pytest.raises(HubError, match="There is no file"):
        fetched(Keras, f"keras:{tmp_path}/none.h5")
    with pytest.raises(UsageError, match="names a revision, 'v2'"):
        fetched(Keras, "keras:ResNet50@v2")


# PyTorch Hub

HUBCONF = """
dependencies = ["torch"]
import torch, pathlib
from layers import Net

pathlib.Path({ran!r}).touch()

def tiny(pretrained=False, classes=1000):
    net = Net(classes)
    if pretrained:
        torch.nn.init.constant_(net.fc.weight, 0.5)
    return net
"""
LAYERS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(3, 6, 3), torch.nn.Linear(6, classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Serve the archive of a repository's branch `master`, as code hosts do."""
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("owner-nets-abc123/hubconf.py", HUBCONF.format(ran=str(tmp_path / "RAN")))
        archive.writestr("owner-nets-abc123/layers.py", LAYERS)
    paths = {"/owner/nets/zipball/master": to.getvalue()}

    def answer(request):
        found = paths.get(request.path)
        return Answer(404) if found is None else Answer(200, found)

    with serve(answer) as url:
        monkeypatch.setenv("TORCHHUB_ENDPOINT", url)
        yield paths


def test_code_runs_only_when_trusted(host, tmp_path, monkeypatch):
    with pytest.raises(HubError, match=r"'hubconf\.py', 'layers\.py'") as caught:
        fetched(Torchhub, "torchhub:owner/nets:tiny")
    assert "--trust-remote-code" in caught.value.hint
    assert not (tmp_path / "RAN").exists()
    monkeypatch.setenv("HEADSTART_TRUST_REMOTE_CODE", "1")
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    network = fetched(Torchhub, "torchhub:owner/nets:tiny")
    assert (tmp_path / "RAN").exists()
    assert network.backbone.width == 6
    assert network.folder == tmp_path / "torch_home" / "hub" / "owner_nets_master"
    given = torch.randn(2, 3, 16, 16)
    found = Torch().open(replace(network, use="embed"), "f32", 1).run({"pixels": given.numpy()})["embedding"]
    assert found.shape == (2, 6)
    weights = Torch().open(replace(network, use="classify"), "f32", 1).built.module.fc.weight
    assert float(weights.mean()) == 0.5


def test_a_file_takes_the_place_of_published_weights(host, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_TRUST_REMOTE_CODE", "1")
    torch.manual_seed(4)
    states = Tiny().state_dict()
    torch.save(states, tmp_path / "a.pth")
    network = fetched(Torchhub, "torchhub:owner/nets:tiny@master", tmp_path / "a.pth")
    module = Torch().open(replace(network, use="classify"), "f32", 1).built.module
    assert torch.equal(module.fc.weight, states["fc.weight"])


def test_repositories_and_entries_are_checked(host, monkeypatch):
    monkeypatch.setenv("HEADSTART_TRUST_REMOTE_CODE", "1")
    with pytest.raises(HubError, match="no entry 'tinny'"):
        fetched(Torchhub, "torchhub:owner/nets:tinny")
    with pytest.raises(HubError):
        fetched(Torchhub, "torchhub:owner/other:tiny")
    with pytest.raises(UsageError, match="does not name an entry"):
        fetched(Torchhub, "torchhub:resnet18")
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("a/hubconf.py", "")
        archive.writestr("a/../../evil.py", "")
    host["/owner/evil/zipball/main"] = to.getvalue()
    with pytest.raises(HubError, match="leads out of its folder"):
        fetched(Torchhub, "torchhub:owner/evil:tiny@main")


# Files on this machine


def test_weights_alone_ask_for_their_architecture(tmp_path):
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(HubError) as caught:
            Local().fetch(Backbone.parse(f"local:{tmp_path / name}"), Quiet())
        assert f"torchvision:resnet50 --weights '{tmp_path / name}'" in caught.value.hint
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(HubError, match="no kind of model file"):
        Local().fetch(Backbone.parse(f"local:{tmp_path / 'a.zip'}"), Quiet())
    with pytest.raises(HubError, match="no file or folder"):
        Local().fetch(Backbone.parse(f"local:{tmp_path / 'b'}"), Quiet())
