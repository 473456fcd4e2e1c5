"""Weights that are set to zero one by one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import UsageError
from headstart.core.zeros import zeroed, zipped


def network(folder, name="model.safetensors") -> Network:
    (folder / "config.json").write_text(json.dumps({"kind": "any"}), encoding="utf-8")
    backbone = Backbone("local", str(folder), modality="text")
    return Network(folder=folder, architecture="any", config={"kind": "any"}, weights=folder / name, backbone=backbone)


def test_the_smallest_of_each_matrix_become_zero_and_all_else_stays(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        "large": rng.normal(0, 9, (40, 30)).astype(np.float32),
        "small": rng.normal(0, 0.1, (20, 10)).astype(np.float16),
        "kernel": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "bias": np.full(7, 1e-9, np.float32),
        "numbers": np.ones((3, 3), np.int64),
    }
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    made = zeroed(network(tmp_path), 0.75, tmp_path / "out")
    found = load_file(made.weights)
    assert found.keys() == tensors.keys()
    for name in ("large", "small", "kernel"):
        kept = found[name] != 0
        assert kept.sum() == tensors[name].size - round(0.75 * tensors[name].size)
        assert np.array_equal(found[name][kept], tensors[name][kept]) and found[name].dtype == tensors[name].dtype
        assert np.abs(tensors[name][kept]).min() >= np.abs(tensors[name][~kept]).max()
    assert all(np.array_equal(found[name], tensors[name]) for name in ("bias", "numbers"))
    assert made.backbone.checksum != network(tmp_path).backbone.checksum
    assert zipped(made.weights) < 0.6 * zipped(tmp_path / "model.safetensors")
    assert made.weights.stat().st_size >= zipped(made.weights)


def test_other_layouts_are_told(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"'model\.onnx' cannot be set to zero"):
        zeroed(network(tmp_path, "model.onnx"), 0.5, tmp_path / "out")
