"""YOLOX: its weights read out of a graph, its loss, and what becomes of it when it is tuned."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError
from headstart.formats import _yolox_files
from headstart.formats._yolox_layout import SIZES, convolutions
from headstart.formats.openvino import OpenVINO

SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).parents[4] / "shared")) / "weights"
GRAPH = SHARED / "yolox_nano" / "yolox_nano.onnx"
shared = pytest.mark.skipif(not GRAPH.is_file(), reason="needs ../shared")


def network(path: Path, classes: int, **config) -> Network:
    return Network(
        folder=path.parent, architecture="yolox", weights=path, library="yolox", use="detect",
        config={"layout": "yolox", "classes": classes, "strides": [8, 16, 32], "overlap": 0.45, **config},
        backbone=Backbone("local", str(path), modality="image", uses=("detect",)),
        preprocessing={"size": [96, 96], "pad": 114, "scale": 1.0, "channels": "bgr", "antialias": False},
        labels=[str(each) for each in range(classes)],
    )  # fmt: skip


def saved(folder: Path, classes: int = 2, size: str = "yolox_nano") -> Path:
    """Write a random YOLOX whose activations keep their size from layer to layer."""
    generator, tensors = np.random.default_rng(0), {}
    for each in convolutions(SIZES[size], classes):
        # Pixels are of 0 … 255; the last layers give logits.
        gain = 0.01 if each.name == "backbone.stem" else 1.3 if each.shape[0] > 8 else 0.3
        spread = gain / math.sqrt(math.prod(each.shape[1:]))
        tensors[f"{each.name}.weight"] = generator.normal(0, spread, each.shape).astype(np.float32)
        tensors[f"{each.name}.bias"] = generator.normal(0, 0.1, each.shape[0]).astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def pixels(count: int = 2, side: int = 96) -> np.ndarray:
    return (np.random.default_rng(1).random((count, 3, side, side)) * 255).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "millions"),
    [("nano", 0.91), ("tiny", 5.06), ("s", 9.0), ("m", 25.3), ("l", 54.2), ("x", 99.1)],
)
def test_sizes_have_as_many_weights_as_the_paper_says(size, millions):
    found = sum(math.prod(each.shape) + each.shape[0] for each in convolutions(SIZES[f"yolox_{size}"], 80))
    assert found / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("size", ["yolox_nano", "yolox_s"])
def test_what_was_written_is_read_again(size, tmp_path):
    path = saved(tmp_path, 5, size)
    found, classes, tensors = _yolox_files.read(path)
    assert (found, classes) == (SIZES[size], 5)
    assert tensors["head.level2.classes.bias"].shape == (5,)


def test_other_files_are_refused_with_the_reason(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a.weight": np.zeros((4, 3, 3, 3), np.float32)}, path)
    assert "is no YOLOX" in _yolox_files.unsupported(path)
    _, _, tensors = _yolox_files.read(saved(tmp_path))
    save_file({name: each for name, each in tensors.items() if "up4.main" not in name}, path)
    with pytest.raises(HubError, match=r"no weights for 'neck\.up4\.main'"):
        _yolox_files.read(path)
    path = tmp_path / "torn.onnx"
    path.write_bytes(b"\x3a\xff\xff\x7f")
    with pytest.raises(HubError, match="no ONNX file, or is cut short"):
        _yolox_files.read(path)
    assert OpenVINO().supports(network(path, 2)).endswith("is no ONNX file, or is cut short")
    assert "YOLOX finds boxes" in OpenVINO().supports(replace(network(saved(tmp_path), 2), use="embed"))


@shared
def test_a_torn_graph_is_no_graph(tmp_path):
    whole = GRAPH.read_bytes()
    for length in (len(whole) // 2, len(whole) - 1000):
        (tmp_path / "torn.onnx").write_bytes(whole[:length])
        assert _yolox_files.unsupported(tmp_path / "torn.onnx")


@shared
def test_the_graph_built_from_weights_gives_what_the_exported_one_gives():
    own = replace(network(GRAPH, 80), preprocessing={"size": [416, 416]})
    exported = replace(own, library="onnx")
    given = pixels(1, 416)
    ours, theirs = (OpenVINO().open(each, "f32", 1).run({"pixels": given}) for each in (own, exported))
    assert theirs["counts"] == ours["counts"] > 0
    for name in theirs:
        assert np.allclose(ours[name], theirs[name], atol=1e-3)


def test_several_pictures_at_once_give_what_each_gives_alone(tmp_path):
    session, given = OpenVINO().open(network(saved(tmp_path), 2), "f32", 1), pixels(3)
    every = session.run({"pixels": given})
    alone = [session.run({"pixels": given[at : at + 1]}) for at in range(3)]
    assert every["counts"].tolist() == [int(each["counts"][0]) for each in alone]
    assert every["counts"].sum() > 0
    assert np.allclose(every["boxes"], np.concatenate([each["boxes"] for each in alone]), atol=1e-3)
    assert np.abs(every["boxes"]).max() < 1000
