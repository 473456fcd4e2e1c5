"""torchvision's detectors traced into OpenVINO give PyTorch's boxes, and need PyTorch only once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("openvino")

from safetensors.torch import save_file  # noqa: E402

from headstart.core.backbone import Backbone, Network  # noqa: E402
from headstart.core.files import sha256  # noqa: E402
from headstart.formats import _openvino_regions  # noqa: E402
from headstart.formats.openvino import OpenVINO  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.stages.networks import frozen, start  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, PyTorch runs them"),
]
WITHOUT_TORCH = """
import json, sys
for name in ("torch", "torchvision"):
    sys.modules[name] = None
import numpy as np
from pathlib import Path
from headstart.stages.networks import start, thaw
opened = start(thaw(Path(sys.argv[2]), json.loads(Path(sys.argv[1]).read_text())))
np.save(sys.argv[4], opened.session.run({"pixels": np.load(sys.argv[3])})["boxes"])
print(opened.format)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def pictures(count: int, height: int, width: int) -> np.ndarray:
    spots = np.random.default_rng(5).random((count, 3, height // 8, width // 8), np.float32)
    return spots.repeat(8, 2).repeat(8, 3)


def network(folder: Path, architecture: str, spread: bool = True, **config) -> Network:
    """Return a detector with random weights; `spread`: of which each layer gives numbers about one apart."""
    weights = folder / "detector.safetensors"
    made = Network(
        folder=folder, architecture=architecture, weights=weights, library="torchvision", use="detect",
        config={"classes": 4, **config}, preprocessing={"size": None, "scale": 1 / 255},
        backbone=Backbone("torchvision", architecture, modality="image", uses=("detect",)),
    )  # fmt: skip
    from headstart.formats._torchvision_detect import _module

    torch.manual_seed(0)
    module = _module(made, 4).eval()
    for each in module.modules() if spread else ():
        if isinstance(each, torch.nn.Conv2d | torch.nn.Linear):
            if each.bias is not None:
                torch.nn.init.zeros_(each.bias)
            each.register_forward_hook(_spread)
    with torch.no_grad():
        module([torch.from_numpy(pictures(1, 96, 128)[0])])
    save_file({name: each.contiguous() for name, each in module.state_dict().items()}, weights)
    return replace(made, backbone=replace(made.backbone, checksum=sha256(weights)))


def _spread(layer, _given, output):
    found = output.std()
    if found > 0:
        layer.weight.data.div_(found)
        output = output / found
    return output


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("FasterRCNN", {"backbone": "mobilenet_v2", "min_size": 96, "max_size": 160}),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", {"min_size": 96, "max_size": 160}),
        ("ssdlite320_mobilenet_v3_large", {}),
        ("retinanet_resnet50_fpn", {"min_size": 64, "max_size": 128}),
        ("fcos_resnet50_fpn", {"min_size": 64, "max_size": 128}),
    ],
)
def test_its_boxes_are_pytorchs(architecture, config, tmp_path):
    made = network(tmp_path, architecture, **config)
    opened = start(made)
    assert (opened.format, opened.precision) == ("openvino", "f32"), OpenVINO().supports(made)
    theirs = Torch().open(made, "f32", 1)
    for size in ((96, 128), (160, 96)):
        given = {"pixels": pictures(2, *size)}
        ours, expected = opened.session.run(given), theirs.run(given)
        assert list(ours) == list(expected)
        assert all(ours[name].shape[1:] == each.shape[1:] for name, each in expected.items())
        assert ours["counts"].sum() == len(ours["boxes"]) > 10
        # A box may be another one where two score the same but for a rounding.
        assert _openvino_regions.alike(ours, expected) > 0.9
        first = ours["scores"][: ours["counts"][0]]
        assert (np.diff(first) <= 0).all() and first.min() > theirs.built.threshold


def test_boxes_that_hang_on_a_rounding_are_left_to_pytorch(tmp_path, monkeypatch):
    # Layers without any spread: all boxes score the same, but for what sums in another order do.
    made = network(tmp_path, "ssdlite320_mobilenet_v3_large", spread=False)
    assert start(made).format == "torch"
    (tmp_path / "spread").mkdir()
    monkeypatch.setattr(_openvino_regions, "ROUNDING", 0.1)
    made = network(tmp_path / "spread", "ssdlite320_mobilenet_v3_large")
    assert start(made).format == "torch"
    assert "change with a rounding" in OpenVINO().supports(made)


def test_other_boxes_are_found_out(tmp_path, monkeypatch):
    made = network(tmp_path, "ssdlite320_mobilenet_v3_large")
    inner = _openvino_regions.values
    monkeypatch.setattr(
        _openvino_regions, "values", lambda built, pixels, threshold: inner(built, pixels * 0.9, threshold)
    )
    assert start(made).format == "torch"
    assert "gives other boxes in OpenVINO" in OpenVINO().supports(made)


def test_boxes_are_alike_where_place_class_and_score_are():
    some = {"boxes": np.array([[0.0, 0, 10, 10], [5, 5, 9, 9]]), "scores": np.array([0.9, 0.5]), "classes": np.ones(2)}
    assert _openvino_regions.alike(some, some) == 1
    assert _openvino_regions.alike(some, {**some, "scores": np.array([0.9, 0.52])}) == 0.5
    assert _openvino_regions.alike(some, {**some, "classes": np.array([2, 1])}) == 0.5
    assert _openvino_regions.alike(some, {**some, "boxes": some["boxes"] + np.array([[0, 0, 0, 0.5]])}) == 0
    assert _openvino_regions.alike(some, {name: each[:0] for name, each in some.items()}) == 0


def test_what_was_traced_once_needs_no_pytorch(tmp_path):
    made = network(tmp_path, "ssdlite320_mobilenet_v3_large")
    opened, given = start(made), pictures(2, 96, 128)
    (tmp_path / "spec.json").write_text(json.dumps(opened.spec(True) | frozen(made)))
    np.save(tmp_path / "given.npy", given)
    command = [sys.executable, "-c", WITHOUT_TORCH, "spec.json", str(made.folder), "given.npy", "out.npy"]
    ran = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "openvino"), ran.stderr
    assert np.abs(np.load(tmp_path / "out.npy") - opened.session.run({"pixels": given})["boxes"]).max() < 1e-3
