"""Text encoders with fewer feed-forward channels or heads: smaller for real, opened elsewhere, and nearly as before."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from headstart.core.backbone import Backbone
from headstart.core.errors import UsageError
from headstart.core.files import read_json
from headstart.formats.onnx import Onnx
from headstart.formats.openvino import OpenVINO
from headstart.hubs._folder import open_folder
from headstart.modalities.text import Text
from headstart.testing.networks import WORDS, write_bert

INNER, OUTER = "encoder.layer.{}.intermediate.dense", "encoder.layer.{}.output.dense"
SELF, ATTENDED = "encoder.layer.{}.attention.self", "encoder.layer.{}.attention.output.dense"


@pytest.fixture
def network(tmp_path):
    folder = write_bert(tmp_path / "bert", layers=3, heads=2, channels=128)
    return open_folder(folder, Backbone("local", str(folder)), "")


@pytest.fixture
def encoded(network):
    rng = np.random.default_rng(0)
    texts = np.array([" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(300)], object)
    return Text(["text"]).bind(network).encode({"text": texts})


def run(network, encoded):
    return OpenVINO().open(network, "f32", 1).run(encoded)["embedding"]


def cosines(one, other):
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_the_channels_are_gone_from_weights_and_configuration(network, encoded, tmp_path):
    made = OpenVINO().prune(network, 0.75, [encoded], tmp_path / "made")
    weights = load_file(made.weights)
    for each in range(3):
        assert weights[f"{INNER.format(each)}.weight"].shape == (32, 32)
        assert weights[f"{INNER.format(each)}.bias"].shape == (32,)
        assert weights[f"{OUTER.format(each)}.weight"].shape == (32, 32)
    assert read_json(made.folder / "config.json", UsageError)["intermediate_size"] == 32
    assert made.backbone.parameters == sum(each.size for each in weights.values())
    assert made.weights.stat().st_size < network.weights.stat().st_size
    assert made.backbone.checksum != network.backbone.checksum
    assert OpenVINO().operations(made, encoded) < 0.75 * OpenVINO().operations(network, encoded)


def test_without_channels_that_nothing_reads_it_gives_what_it_gave(network, encoded, tmp_path):
    weights, rng = load_file(network.weights), np.random.default_rng(1)
    alive = [np.sort(rng.permutation(128)[:64]) for _ in range(3)]
    for each, kept in enumerate(alive):
        weights[f"{OUTER.format(each)}.weight"][:, np.setdiff1d(np.arange(128), kept)] = 0
    save_file(weights, network.weights)
    made = OpenVINO().prune(network, 0.5, [encoded], tmp_path / "made")
    left = load_file(made.weights)
    for each, kept in enumerate(alive):
        name = f"{INNER.format(each)}.weight"
        np.testing.assert_array_equal(left[name], weights[name][kept])
    assert cosines(run(made, encoded), run(network, encoded)).min() > 0.99999


def test_what_is_left_makes_up_for_what_is_gone(network, encoded, tmp_path):
    whole, made = run(network, encoded), OpenVINO().prune(network, 0.5, [encoded], tmp_path / "made")
    weights, left = load_file(network.weights), load_file(made.weights)
    for each in range(3):
        name = f"{INNER.format(each)}.bias"
        kept = [int(np.flatnonzero(weights[name] == value)[0]) for value in left[name]]
        left[f"{OUTER.format(each)}.weight"] = np.ascontiguousarray(weights[f"{OUTER.format(each)}.weight"][:, kept])
        left[f"{OUTER.format(each)}.bias"] = weights[f"{OUTER.format(each)}.bias"]
    fitted = 1 - cosines(run(made, encoded), whole).mean()
    save_file(left, made.weights)
    cut = 1 - cosines(run(made, encoded), whole).mean()
    assert fitted < 0.25 * cut


def test_heads_that_nothing_reads_go_first_and_nothing_changes(network, encoded, tmp_path):
    weights, dead = load_file(network.weights), [1, 0, 1]
    for each, head in enumerate(dead):
        weights[f"{ATTENDED.format(each)}.weight"][:, 16 * head : 16 * (head + 1)] = 0
    save_file(weights, network.weights)
    made = OpenVINO().prune(network, 0.0, [encoded], tmp_path / "made", 0.5)
    left = load_file(made.weights)
    for each, head in enumerate(dead):
        for part in ("query", "key", "value"):
            name, kept = f"{SELF.format(each)}.{part}.weight", 16 * (1 - head)
            np.testing.assert_array_equal(left[name], weights[name][kept : kept + 16])
        assert left[f"{ATTENDED.format(each)}.weight"].shape == (32, 16)
    config = read_json(made.folder / "config.json", UsageError)
    assert config["pruned_heads"] == {str(each): [head] for each, head in enumerate(dead)}
    assert config["num_attention_heads"] == 2 and "intermediate_size" in config
    assert cosines(run(made, encoded), run(network, encoded)).min() > 0.99999
    assert OpenVINO().operations(made, encoded) < 0.9 * OpenVINO().operations(network, encoded)


def test_heads_and_channels_go_together_and_the_rest_makes_up_for_them(network, encoded, tmp_path):
    whole = run(network, encoded)
    made = OpenVINO().prune(network, 0.5, [encoded], tmp_path / "made", 0.5)
    weights, left = load_file(network.weights), load_file(made.weights)
    for each in range(3):
        name = f"{SELF.format(each)}.query.bias"
        kept = [int(np.flatnonzero(weights[name] == value)[0]) for value in left[name]]
        assert kept in (list(range(16)), list(range(16, 32)))
        left[f"{ATTENDED.format(each)}.weight"] = np.ascontiguousarray(
            weights[f"{ATTENDED.format(each)}.weight"][:, kept]
        )
        left[f"{ATTENDED.format(each)}.bias"] = weights[f"{ATTENDED.format(each)}.bias"]
    fitted = 1 - cosines(run(made, encoded), whole).mean()
    save_file(left, made.weights)
    assert fitted < 0.5 * (1 - cosines(run(made, encoded), whole).mean())


def test_pytorch_says_why_it_opens_none_without_some_of_its_heads(network, encoded, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from headstart.formats.torch import Torch

    made = OpenVINO().prune(network, 0.0, [encoded], tmp_path / "made", 0.5)
    assert "heads were left out" in Torch().supports(made)


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_shares_of_heads_that_leave_all_or_none_are_refused(network, encoded, tmp_path, share):
    with pytest.raises(UsageError, match=r"of 2 attention heads cannot be left out"):
        OpenVINO().prune(network, 0.5, [encoded], tmp_path / "none", share)


@pytest.mark.parametrize("heads", [0.0, 0.5])
def test_onnx_runtime_gives_the_same(network, encoded, tmp_path, heads):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    made = OpenVINO().prune(network, 0.5, [encoded], tmp_path / "made", heads)
    theirs = Onnx().open(made, "f32", 1).run(encoded)["embedding"]
    assert cosines(run(made, encoded), theirs).min() > 0.9999


def test_the_same_texts_prune_alike(network, encoded, tmp_path):
    one, other = (OpenVINO().prune(network, 0.5, [encoded], tmp_path / name) for name in ("one", "other"))
    assert one.backbone.checksum == other.backbone.checksum


@pytest.mark.parametrize("share", [0.0, 0.01, 0.99, 1.0])
def test_a_share_that_leaves_all_or_nothing_is_refused(network, encoded, tmp_path, share):
    with pytest.raises(UsageError, match=r"of 128 feed-forward channels cannot be left out"):
        OpenVINO().prune(network, share, [encoded], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_other_networks_are_refused_and_so_is_having_no_texts(network, encoded, tmp_path):
    with pytest.raises(UsageError, match="no texts"):
        OpenVINO().prune(network, 0.5, [], tmp_path / "none")
    form = OpenVINO().compress(network, "f16", [], tmp_path / "f16")
    with pytest.raises(UsageError, match=r"Nothing can be left out.*BERT family"):
        OpenVINO().prune(form, 0.5, [encoded], tmp_path / "none")
    with pytest.raises(UsageError, match="leaves nothing out"):
        Onnx().prune(network, 0.5, [encoded], tmp_path / "none")
    assert not (tmp_path / "none").exists()
