"""Layers left out of a network on disk."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from headstart.core.backbone import Backbone
from headstart.core.errors import UsageError
from headstart.core.files import read_json
from headstart.core.layers import layer_count, shortened, spread
from headstart.formats.openvino import OpenVINO
from headstart.hubs._folder import open_folder
from headstart.testing.networks import write_bert


@pytest.fixture
def network(tmp_path):
    folder = write_bert(tmp_path / "bert", layers=4)
    return open_folder(folder, Backbone("local", str(folder)), "")


def embedding(network):
    ids = np.array([2, 5, 6, 7, 3], np.int32)
    return OpenVINO().open(network, "f32", 1).run({"ids": ids, "lengths": np.array([5], np.int32)})["embedding"]


def test_the_layers_that_stay_keep_their_weights(network, tmp_path):
    made = shortened(network, [0, 3], tmp_path / "short")
    assert (
        layer_count(made.config) == 2 and read_json(made.folder / "config.json", UsageError)["num_hidden_layers"] == 2
    )
    before, after = load_file(network.weights), load_file(made.weights)
    name = "encoder.layer.{}.output.dense.weight"
    np.testing.assert_array_equal(after[name.format(1)], before[name.format(3)])
    assert name.format(2) not in after
    assert made.backbone.parameters == sum(each.size for each in after.values())
    assert made.backbone.checksum != network.backbone.checksum
    assert not np.allclose(embedding(made), embedding(network))


def test_all_layers_in_their_order_are_the_network_itself(network, tmp_path):
    made = shortened(network, spread(4, 4), tmp_path / "same")
    np.testing.assert_array_equal(embedding(made), embedding(network))


def test_weights_of_another_layout_are_refused(network, tmp_path):
    save_file({"block.0.weight": np.zeros(2, np.float32)}, network.weights)
    with pytest.raises(UsageError, match="tells of 4 layers, and its weights have 0"):
        shortened(network, [0], tmp_path / "none")
    assert not (tmp_path / "none").exists()
