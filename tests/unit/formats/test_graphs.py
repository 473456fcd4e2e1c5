"""Saved graphs: what they are is seen from their inputs and outputs, and both engines give the same."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError
from headstart.core.progress import Quiet
from headstart.formats import _graphs
from headstart.formats.openvino import OpenVINO
from headstart.hubs import _signatures
from headstart.hubs._graphs import open_graph
from headstart.hubs.local import Local
from tests.standins.tensorflow import saved_model

SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).parents[4] / "shared")) / "weights"


def network(layout: str, use: str = "detect", **config) -> Network:
    return Network(
        folder=Path(), architecture=layout, weights=Path(), backbone=Backbone("local", "x", modality="image"), use=use,
        config={"layout": layout, "strides": [8, 16, 32], **config}, library="onnx",
    )  # fmt: skip


def test_yolox_cells_are_decoded():
    raw = np.full((1, 84, 8), -9, np.float32)  # 64 x 64: 64 + 16 + 4 cells, 3 classes.
    raw[..., 4:] = 0
    raw[0, 64 + 6] = [0.5, 0.25, np.log(2), np.log(1), 0.9, 0.1, 0.8, 0.2]  # Row 1, column 2 of the middle grid.
    found = _graphs.run(network("yolox"), lambda pixels: raw, np.zeros((1, 3, 64, 64), np.float32))
    assert found["counts"].tolist() == [1]
    assert found["classes"].tolist() == [1]
    assert np.allclose(found["scores"], 0.72)
    # Centre (2.5, 1.25) x 16, size (2, 1) x 16.
    assert np.allclose(found["boxes"], [[24, 12, 56, 28]])


def test_newer_yolo_columns_are_read_best_first():
    raw = np.zeros((2, 6, 84), np.float32)
    raw[0, :, 7] = [30, 20, 10, 8, 0.3, 0.1]
    raw[0, :, 50] = [40, 40, 20, 20, 0, 0.9]
    found = _graphs.run(network("yolov8"), lambda pixels: raw, np.zeros((2, 3, 64, 64), np.float32))
    assert found["counts"].tolist() == [2, 0]
    assert found["classes"].tolist() == [1, 0]
    assert np.allclose(found["boxes"], [[30, 30, 50, 50], [25, 16, 35, 24]])


def test_shares_and_scores_are_told_apart():
    pixels = np.zeros((2, 3, 4, 4), np.float32)
    shares = np.array([[0.2, 0.8], [0.5, 0.5]], np.float32)
    assert set(_graphs.run(network("vector", "classify"), lambda each: shares, pixels)) == {"probabilities"}
    assert set(_graphs.run(network("vector", "classify"), lambda each: shares - 1, pixels)) == {"logits"}
    assert set(_graphs.run(network("vector", "embed"), lambda each: shares, pixels)) == {"embedding"}


def test_a_graph_of_one_picture_gets_one_at_a_time():
    seen = []

    def infer(pixels):
        seen.append(len(pixels))
        return pixels.mean((2, 3))

    pixels = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    found = _graphs.run(network("vector", "embed", fixed=True), infer, pixels)
    assert seen == [1, 1, 1]
    assert np.allclose(found["embedding"], pixels.mean((2, 3)))


def write(path: Path, shape=(None, 3, 32, 32), channels: int = 5, kind: str = "Softmax") -> Path:
    """Write a small convolutional network as ONNX."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(1)
    weight = numpy_helper.from_array(generator.normal(0, 0.3, (channels, 3, 3, 3)).astype(np.float32), "weight")
    nodes = [
        helper.make_node("Conv", ["pixels", "weight"], ["map"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node(kind, ["flat"], ["out"]),
    ]
    named = [each or "n" for each in shape]
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, named)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [named[0], channels])
    graph = helper.make_graph(nodes, "tiny", [given], [out], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_an_onnx_file_is_seen_for_what_it_is(tmp_path):
    path = write(tmp_path / "m.onnx")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    (tmp_path / "preprocessing.json").write_text('{"scale": 1.0, "mean": null, "std": null}')
    found = open_graph(path, Backbone.parse(f"local:{path}"), "onnx")
    assert found.backbone.uses == ("classify", "embed")
    assert (found.labels, found.backbone.width) == (["a", "b", "c", "d", "e"], 5)
    assert found.preprocessing["crop"] == [32, 32]
    assert (found.preprocessing["scale"], found.preprocessing["mean"]) == (1.0, None)


@pytest.mark.parametrize("shape", [(None, 3, 32, 32), (1, 3, 32, 32)], ids=["any", "one"])
def test_both_engines_agree(shape, tmp_path):
    pytest.importorskip("onnxruntime")
    from headstart.formats.onnx import Onnx

    path = write(tmp_path / "m.onnx", shape)
    found = replace(open_graph(path, Backbone.parse(f"local:{path}"), "onnx"), use="classify")
    pixels = np.random.default_rng(2).normal(size=(4, 3, 32, 32)).astype(np.float32)
    ours = OpenVINO().open(found, "f32", 1).run({"pixels": pixels})["probabilities"]
    theirs = Onnx().open(found, "f32", 1).run({"pixels": pixels})["probabilities"]
    assert ours.shape == (4, 5)
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.ptp(ours, axis=0).max() > 1e-3
    assert (OpenVINO().supports(found), Onnx().supports(found)) == ("", "")
    assert OpenVINO.rank < Onnx.rank


def test_what_is_no_image_network_is_told(tmp_path):
    path = write(tmp_path / "m.onnx", (None, 1, 32, 32))
    with pytest.raises(HubError, match="no ONNX file"):
        _signatures.of_onnx(Path(__file__))
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(HubError, match="cut short"):
        _signatures.of_onnx(cut)
    with pytest.raises(HubError, match="no TFLite file"):
        _signatures.of_tflite(path)
    with pytest.raises(HubError, match="no SavedModel file"):
        _signatures.of_saved_model(tmp_path / "none")


def test_a_graph_of_another_modality_is_refused():
    if not (SHARED / "silero_vad").is_dir():
        pytest.skip("the real weights are not on this machine")
    path = SHARED / "silero_vad" / "silero_vad.onnx"
    with pytest.raises(HubError, match=r"reads 'input float32 \[0, 0\]'"):
        open_graph(path, Backbone.parse(f"local:{path}"), "onnx")


def test_a_keras_tflite_answers():
    path = SHARED / "keras_resnet8_cifar10" / "pretrainedResnet.tflite"
    if not path.is_file():
        pytest.skip("the real weights are not on this machine")
    found = replace(open_graph(path, Backbone.parse(f"local:{path}"), "tflite"), use="classify")
    assert (found.preprocessing["layout"], found.preprocessing["size"], found.backbone.width) == ("nhwc", [32, 32], 10)
    pixels = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype(np.float32)
    shares = OpenVINO().open(found, "f32", 1).run({"pixels": pixels})["probabilities"]
    assert np.allclose(shares.sum(1), 1, atol=1e-4)


def test_a_saved_model_answers_without_tensorflow(tmp_path):
    folder = saved_model(tmp_path / "colours")
    found = Local().fetch(Backbone.parse(f"local:{folder}"), Quiet())
    assert (found.library, found.backbone.modality, found.backbone.width) == ("tensorflow", "image", 3)
    assert (found.preprocessing["size"], found.preprocessing["layout"]) == ([16, 16], "nhwc")
    pixels = np.random.default_rng(0).uniform(size=(4, 16, 16, 3)).astype(np.float32)
    vectors = OpenVINO().open(replace(found, use="embed"), "f32", 1).run({"pixels": pixels})["embedding"]
    assert np.abs(vectors - pixels.mean((1, 2))).max() < 1e-5
