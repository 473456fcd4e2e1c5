"""Adapters are merged into safetensors files by NumPy alone: the numbers, the names, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from headstart.core.adapter import SETTINGS, TENSORS, merge, size_of
from headstart.core.errors import HubError


def adapter(folder, halves, **settings):
    """Write an adapter as peft lays it out; `halves` are (A, B) by layer."""
    folder.mkdir()
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "fan_in_fan_out": False, **settings}
    (folder / SETTINGS).write_text(json.dumps(told))
    tensors = {}
    for layer, (down, up) in halves.items():
        tensors[f"base_model.model.{layer}.lora_A.weight"] = down
        tensors[f"base_model.model.{layer}.lora_B.weight"] = up
    save_file(tensors, folder / TENSORS)
    return folder


def drawn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


DOWN, UP = drawn(2, 5), drawn(3, 2)


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("layer", ["layer.0.dense", "bert.layer.0.dense"])
def test_a_layer_is_found_whatever_prefix_stands_before_it(tmp_path, prefix, layer):
    before = {f"{prefix}layer.0.dense.weight": drawn(3, 5, seed=1), f"{prefix}layer.0.dense.bias": drawn(3)}
    save_file(before, tmp_path / "w.safetensors", metadata={"format": "pt"})
    merge(tmp_path / "w.safetensors", adapter(tmp_path / "a", {layer: (DOWN, UP)}), tmp_path / "out.safetensors")
    after = load_file(tmp_path / "out.safetensors")
    assert after.keys() == before.keys()
    changed, kept = f"{prefix}layer.0.dense.weight", f"{prefix}layer.0.dense.bias"
    np.testing.assert_allclose(after[changed], before[changed] + 4 / 2 * UP @ DOWN, rtol=1e-6)
    assert np.array_equal(after[kept], before[kept])
    assert b'"format":"pt"' in (tmp_path / "out.safetensors").read_bytes()[:500].replace(b" ", b"")


def test_convolutions_and_layers_whose_inputs_come_first(tmp_path):
    down, up = drawn(2, 4, 3, 3), drawn(6, 2, 1, 1)
    before = {"conv.weight": drawn(6, 4, 3, 3, seed=1)}
    save_file(before, tmp_path / "w.safetensors")
    merge(tmp_path / "w.safetensors", adapter(tmp_path / "a", {"conv": (down, up)}), tmp_path / "out.safetensors")
    expected = before["conv.weight"] + 2 * np.einsum("or,rihw->oihw", up[:, :, 0, 0], down)
    np.testing.assert_allclose(load_file(tmp_path / "out.safetensors")["conv.weight"], expected, rtol=1e-5, atol=1e-6)
    before = {"h.0.attn.weight": drawn(5, 3)}
    save_file(before, tmp_path / "w.safetensors")
    flipped = adapter(tmp_path / "b", {"transformer.h.0.attn": (DOWN, UP)}, fan_in_fan_out=True)
    merge(tmp_path / "w.safetensors", flipped, tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")["h.0.attn.weight"]
    np.testing.assert_allclose(found, before["h.0.attn.weight"] + 2 * (UP @ DOWN).T, rtol=1e-5, atol=1e-6)


def test_half_precision_is_rounded_once(tmp_path):
    before = drawn(3, 5, seed=1)
    change = 2 * UP.astype(np.float64) @ DOWN.astype(np.float64)
    save_file({"l.weight": before.astype(np.float16)}, tmp_path / "w.safetensors")
    merge(tmp_path / "w.safetensors", adapter(tmp_path / "a", {"l": (DOWN, UP)}), tmp_path / "out.safetensors")
    expected = (before.astype(np.float16).astype(np.float64) + change).astype(np.float16)
    assert np.array_equal(load_file(tmp_path / "out.safetensors")["l.weight"], expected)
    # NumPy has no bfloat16: it is the upper half of a float32.
    upper = before.view(np.uint32) >> 16
    header = json.dumps({"l.weight": {"dtype": "BF16", "shape": [3, 5], "data_offsets": [0, 30]}}).encode()
    content = len(header).to_bytes(8, "little") + header + upper.astype("<u2").tobytes()
    (tmp_path / "b.safetensors").write_bytes(content)
    merge(tmp_path / "b.safetensors", tmp_path / "a", tmp_path / "out.safetensors")
    made = np.frombuffer((tmp_path / "out.safetensors").read_bytes()[8 + len(header) :], "<u2").reshape(3, 5)
    wide = (made.astype(np.uint32) << 16).view(np.float32)
    exact = (upper.astype(np.uint32) << 16).view(np.float32) + change
    assert np.all(np.abs(wide - exact) <= np.abs(exact) * 2.0**-8)


@pytest.mark.parametrize(
    ("tensors", "settings", "words"),
    [
        ({"other.weight": drawn(3, 5)}, {}, "does not have"),
        ({"l.weight": drawn(3, 4)}, {}, "does not fit"),
        ({"a.l.weight": drawn(3, 5), "b.l.weight": drawn(3, 5)}, {}, "does not have"),
        ({"l.weight": drawn(3, 5)}, {"use_dora": True}, "without peft"),
        ({"l.weight": drawn(3, 5)}, {"peft_type": "LOHA"}, "without peft"),
        ({"l.weight": drawn(3, 5)}, {"rank_pattern": {"l": 4}}, "without peft"),
        ({"l.weight": drawn(3, 5)}, {"r": None}, "cannot be read"),
    ],
)
def test_what_does_not_belong_is_refused(tmp_path, tensors, settings, words):
    save_file(tensors, tmp_path / "w.safetensors")
    made = adapter(tmp_path / "a", {"l": (DOWN, UP)}, **settings)
    with pytest.raises(HubError, match=words):
        merge(tmp_path / "w.safetensors", made, tmp_path / "out.safetensors")
    assert size_of(made) == sum(each.stat().st_size for each in made.iterdir())


def test_damaged_files_are_told(tmp_path):
    made = adapter(tmp_path / "a", {"l": (DOWN, UP)})
    (tmp_path / "w.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(HubError, match="cannot be read as safetensors"):
        merge(tmp_path / "w.safetensors", made, tmp_path / "out.safetensors")
    (made / TENSORS).write_bytes(b"torn")
    with pytest.raises(HubError, match="cannot be read"):
        merge(tmp_path / "w.safetensors", made, tmp_path / "out.safetensors")
