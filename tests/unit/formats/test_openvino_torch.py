"""Networks of PyTorch run by OpenVINO give what PyTorch gives, and need it only once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("openvino")

from headstart.core.backbone import Backbone  # noqa: E402
from headstart.core.download import locked  # noqa: E402
from headstart.core.errors import HubError  # noqa: E402
from headstart.core.files import cache_folder  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats import _openvino_torch, _tracing  # noqa: E402
from headstart.formats.openvino import OpenVINO, _core  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.hubs.torchvision import Torchvision  # noqa: E402
from headstart.stages.networks import frozen, start  # noqa: E402
from tests.unit.pipelines import sounds  # noqa: E402
from tests.unit.pipelines.test_detect import detector  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, PyTorch runs them"),
]
SIDE = {"size": [64, 64], "crop": None}
FOREIGN = """
import torch

class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.last = torch.nn.Linear(4, 1000)

    def forward(self, pixels):
        vector = self.convolution(pixels).mean((2, 3))
        {what}
        return self.last(vector)

def counting(pretrained=False):
    torch.manual_seed(0)
    return Counting()
"""
FROZEN = "vector = vector * float(vector.detach().abs().sum())"
"""Depends on the pictures that it is traced with: another batch gives other numbers."""
UNTRACEABLE = "assert not torch.jit.is_tracing(), 'not while tracing'"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def pixels(count: int = 3, side: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 3, side, side)).astype(np.float32)


def resnet(tmp_path: Path):
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    backbone = replace(Backbone.parse("torchvision:resnet18"), weights=str(tmp_path / "resnet18.pth"))
    return small(Torchvision().fetch(backbone, Quiet()))


def small(network, **more):
    return replace(network, preprocessing={**network.preprocessing, **SIDE}, **more)


def same(network, given: np.ndarray) -> dict[str, np.ndarray]:
    """Return OpenVINO's answer, which is PyTorch's."""
    assert OpenVINO().supports(network) == ""
    theirs = Torch().open(network, "f32", 1).run({"pixels": given})
    ours = OpenVINO().open(network, "f32", 1).run({"pixels": given})
    assert list(ours) == list(theirs)
    for name, each in theirs.items():
        assert ours[name].shape == each.shape
        assert np.abs(ours[name] - each).max() <= 1e-3 * max(1.0, np.abs(each).max())
    return ours


@pytest.mark.parametrize(("use", "name", "width"), [("embed", "embedding", 512), ("classify", "logits", 1000)])
def test_a_network_of_torchvision(use, name, width, tmp_path):
    assert same(replace(resnet(tmp_path), use=use), pixels())[name].shape == (3, width)


def test_two_depths_stand_beside_each_other(tmp_path):
    network = resnet(tmp_path)
    both = same(replace(network, pooling={"layers": 2}), pixels())["embedding"]
    assert both.shape == (3, 512 + 256)
    # Each of unit length, so that neither drowns the other.
    assert np.allclose(np.linalg.norm(both[:, :512], axis=1), 1, atol=1e-4)
    assert np.allclose(np.linalg.norm(both[:, 512:], axis=1), 1, atol=1e-4)


def test_textures_of_three_maps_stand_beside_the_end(tmp_path):
    network = replace(resnet(tmp_path), pooling={"textures": True})
    given = np.concatenate([pixels(), np.ones((1, 3, 64, 64), np.float32)])
    found = same(network, given)["embedding"]
    widths = [512, *[256] * 3, *[128] * 3, *[64] * 3]
    assert found.shape == (4, sum(widths))
    parts = np.split(found, np.cumsum(widths)[:-1], axis=1)
    assert all(np.allclose(np.linalg.norm(each, axis=1), 1, atol=1e-4) for each in parts)
    # Mean, spread, maximum: of the map that `layers` shows alone, the mean is the same.
    assert np.abs(parts[1] - same(replace(network, pooling={"layers": 2}), given)["embedding"][:, 512:]).max() < 1e-4
    assert np.abs(parts[1] - parts[3]).max() > 0.01


def test_textures_have_a_slope_where_a_picture_is_the_same_all_over(tmp_path):
    built = Torch().open(replace(resnet(tmp_path), pooling={"textures": True}), "f32", 1).trainable()
    flat = torch.zeros(2, 3, 64, 64)
    for each in built.module.parameters():
        each.requires_grad_(True)
    built.run({"pixels": flat})["embedding"].sum().backward()
    slopes = [each.grad for each in built.module.parameters() if each.grad is not None]
    assert slopes and all(torch.isfinite(each).all() for each in slopes)


def test_a_network_of_timm(tmp_path):
    timm = pytest.importorskip("timm")
    from headstart.hubs.timm import Timm

    torch.manual_seed(0)
    module = timm.create_model("mobilenetv3_small_050", pretrained=False)
    torch.save(module.state_dict(), tmp_path / "a.pth")
    backbone = replace(Backbone.parse("timm:mobilenetv3_small_050"), weights=str(tmp_path / "a.pth"))
    network = small(Timm().fetch(backbone, Quiet()))
    assert same(network, pixels())["embedding"].shape == (3, network.backbone.width)


def test_a_network_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 1, 1]}
    config = transformers.ResNetConfig(layer_type="basic", **sizes)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "resnet")
    transformers.ConvNextImageProcessor().save_pretrained(tmp_path / "resnet")
    network = small(Local().fetch(Backbone.parse(f"local:{tmp_path / 'resnet'}"), Quiet()))
    assert same(replace(network, pooling={"layers": 2}), pixels())["embedding"].shape == (3, 24 + 16)
    assert start(network).format == "openvino"


def test_a_first_opening_is_told_because_it_takes_seconds(tmp_path):
    class Heard(Quiet):
        def __init__(self):
            self.lines = []

        def say(self, line):
            self.lines.append(line)

    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "a.pth")
    backbone = replace(Backbone.parse("torchvision:squeezenet1_1"), weights=str(tmp_path / "a.pth"))
    network, heard = small(Torchvision().fetch(backbone, Quiet())), Heard()
    for _ in range(2):
        assert start(network, progress=heard).format == "openvino"
    (line,) = heard.lines
    assert line == "opening torchvision:squeezenet1_1 for the first time: its graph is traced with PyTorch and kept"


def test_a_network_of_keras(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(7, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax"),
    ]
    keras.Sequential([keras.Input((32, 32, 3)), *layers]).save(tmp_path / "m.keras")
    network = Local().fetch(Backbone.parse(f"local:{tmp_path / 'm.keras'}"), Quiet())
    given = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    assert np.allclose(same(replace(network, use="classify"), given)["probabilities"].sum(1), 1, atol=1e-4)


def heard(tmp_path: Path, head: str = "ForCTC", use: str = "embed", **sizes):
    network = Local().fetch(
        Backbone.parse(f"local:{sounds.write_wav2vec2(tmp_path / 'sound', head, **sizes)}"), Quiet()
    )
    return replace(network, use=use)


@pytest.mark.parametrize(
    ("head", "use", "last"),
    [
        ("ForCTC", "embed", (5, 32)),
        ("ForCTC", "transcribe", (None, 4 + len(sounds.LETTERS))),
        ("ForSequenceClassification", "classify", (5, 3)),
    ],
)
def test_a_network_that_reads_samples(head, use, last, tmp_path):
    pytest.importorskip("transformers")
    network = heard(tmp_path, head, use)
    # Two are of one length; one is shorter than a frame.
    clips = [sounds.tone(seconds, seed=number) for number, seconds in enumerate((0.5, 1.3, 0.5, 0.002, 2.0))]
    given = {"samples": np.concatenate(clips), "lengths": np.array([len(each) for each in clips], np.int32)}
    opened = start(network)
    assert (opened.format, opened.precision) == ("openvino", "f32" if use == "transcribe" else opened.precision)
    theirs = Torch().open(network, "f32", 1).run(given)
    ours = OpenVINO().open(network, "f32", 1).run(given)
    assert list(ours) == list(theirs)
    for name, each in theirs.items():
        assert ours[name].shape == each.shape and ours[name].dtype == each.dtype
        assert np.abs(ours[name] - each).max() <= 1e-3 * max(1.0, np.abs(each).max())
    shape = next(iter(ours.values())).shape
    assert shape == tuple(known or found for known, found in zip(last, shape, strict=True))


def test_eight_bits_of_a_network_that_reads_samples(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("nncf")
    network = heard(tmp_path, intermediate_size=256, num_hidden_layers=4)
    clips = [sounds.tone(0.3 + 0.1 * number, seed=number) for number in range(8)]
    given = {"samples": np.concatenate(clips), "lengths": np.array([len(each) for each in clips], np.int32)}
    small = OpenVINO().compress(network, "int8", [given], tmp_path / "int8")
    theirs = OpenVINO().open(network, "f32", 1).run(given)["embedding"]
    ours = start(small).session.run(given)["embedding"]
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() > 0.98 and np.abs(ours - theirs).max() > 0


def test_large_networks_that_read_samples_are_left_to_pytorch(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    network = heard(tmp_path)
    monkeypatch.setattr(_tracing, "MOST", 1000)
    assert "its graph would take" in OpenVINO().supports(network)
    assert start(network).format == "torch"


def foreign(tmp_path: Path, what: str):
    from headstart.hubs.torchhub import Torchhub

    folder = tmp_path / "torch" / "hub" / "me_nets_main"
    folder.mkdir(parents=True)
    (folder / "hubconf.py").write_text(FOREIGN.format(what=what))
    return small(Torchhub().fetch(Backbone.parse("torchhub:me/nets:counting"), Quiet()))


def test_a_network_of_torch_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_TRUST_REMOTE_CODE", "1")
    assert same(foreign(tmp_path, "pass"), pixels())["embedding"].shape == (3, 4)


@pytest.mark.parametrize(
    ("what", "reason"), [(FROZEN, "gives other numbers"), (UNTRACEABLE, "cannot be traced: .* not while tracing")]
)
def test_what_cannot_be_traced_is_run_by_pytorch(what, reason, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_TRUST_REMOTE_CODE", "1")
    network = replace(foreign(tmp_path, what), use="classify")
    opened = start(network)
    assert opened.format == "torch"
    theirs = Torch().open(network, "f32", 1).run({"pixels": pixels()})["logits"]
    assert np.abs(opened.session.run({"pixels": pixels()})["logits"] - theirs).max() < 1e-5
    # It is remembered, so that it is tried once.
    assert re.search(reason, OpenVINO().supports(network))
    with pytest.raises(HubError, match=reason):
        start(network, "openvino")


def test_weights_that_do_not_fit_are_told(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    backbone = replace(Backbone.parse("torchvision:resnet18"), weights=str(tmp_path / "a.pth"))
    with pytest.raises(HubError, match="do not fit this architecture"):
        start(small(Torchvision().fetch(backbone, Quiet())))


def test_a_cache_that_cannot_be_written_leaves_it_to_pytorch(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    network = resnet(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    assert start(network).format == "torch"


WITHOUT_TORCH = """
import json, sys
import numpy as np
for name in ("torch", "torchvision", "transformers"):
    sys.modules[name] = None
from pathlib import Path
from headstart.stages.networks import start, thaw
spec = json.loads(Path(sys.argv[1]).read_text())
opened = start(thaw(Path(sys.argv[2]), spec), precision="f32")
given = np.load(sys.argv[3])
np.save(sys.argv[4], opened.session.run({"pixels": given})[sys.argv[5]])
print(opened.format)
"""


def detr(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model, processor = detector(transformers, "detr")
    for each in (model, processor):
        each.save_pretrained(tmp_path / "detr")
    return replace(Local().fetch(Backbone.parse(f"local:{tmp_path / 'detr'}"), Quiet()), use="detect")


@pytest.mark.parametrize(("made", "output"), [(resnet, "embedding"), (detr, "boxes")])
def test_what_was_traced_once_needs_no_pytorch(made, output, tmp_path):
    network, given = made(tmp_path), pixels()
    opened = start(network)
    spec = opened.spec(True) | frozen(network)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    np.save(tmp_path / "given.npy", given)
    command = [sys.executable, "-c", WITHOUT_TORCH, "spec.json", str(network.folder), "given.npy", "out.npy", output]
    ran = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "openvino"), ran.stderr
    assert np.abs(np.load(tmp_path / "out.npy") - opened.session.run({"pixels": given})[output]).max() < 1e-5


def test_a_graph_that_was_damaged_leaves_it_to_pytorch(tmp_path):
    network = resnet(tmp_path)
    assert start(network).format == "openvino"
    (graph,) = (cache_folder() / "graphs").rglob(_openvino_torch.GRAPH)
    graph.write_text("<net")
    assert start(network).format == "torch"


def test_one_at_a_time_traces_it(tmp_path):
    network = resnet(tmp_path)
    kept = _openvino_torch._kept(network)
    with ThreadPoolExecutor(1) as other:
        with locked(kept.with_name(f".{kept.name}.lock")):
            waiting = other.submit(start, network)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=3)
            # What the first one has made is taken by the one that waited.
            _openvino_torch._keep(network, kept, _core())
            made = (kept / _openvino_torch.GRAPH).stat().st_mtime_ns
        assert waiting.result(timeout=60).format == "openvino"
    assert (kept / _openvino_torch.GRAPH).stat().st_mtime_ns == made


def test_graphs_that_were_used_longest_ago_make_room(tmp_path, monkeypatch):
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first, second = resnet(tmp_path / "first"), resnet(tmp_path / "second")
    assert start(first).format == "openvino"
    monkeypatch.setattr(_openvino_torch, "LARGEST", 1)
    os.utime(_openvino_torch._kept(first), (1, 1))
    assert start(replace(second, use="classify")).format == "openvino"
    assert not _openvino_torch._kept(first).exists()
    assert start(replace(second, use="classify")).format == "openvino"
    assert start(first).format == "openvino", "it is made again"
