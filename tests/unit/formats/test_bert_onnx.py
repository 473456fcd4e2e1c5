"""Text encoders in ONNX Runtime give what OpenVINO gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError
from headstart.formats.onnx import Onnx
from headstart.formats.openvino import OpenVINO
from headstart.hubs._folder import open_folder
from headstart.modalities.text import Text
from headstart.stages import engine
from headstart.testing.checks import check_format
from headstart.testing.networks import WORDS, write_bert

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def network(tmp_path):
    folder = write_bert(tmp_path / "bert", layers=3)
    return open_folder(folder, Backbone("local", str(folder)), "")


@pytest.fixture
def encoded(network):
    rng = np.random.default_rng(0)
    texts = np.array([" ".join(rng.choice(WORDS, rng.integers(1, 40))) for _ in range(60)], object)
    return Text(["text"]).bind(network).encode({"text": texts})


def test_it_keeps_the_contract_of_engines(network, encoded):
    check_format(Onnx, network, encoded)


@pytest.mark.parametrize(("act", "mode"), [("gelu", "mean"), ("gelu_new", "cls"), ("relu", "max"), ("silu", "mean")])
def test_its_vectors_are_those_of_openvino(network, encoded, act, mode):
    network = replace(
        network, config={**network.config, "hidden_act": act}, pooling={"mode": mode, "normalize": mode == "mean"}
    )
    found = [made.open(network, "f32", 1).run(encoded)["embedding"] for made in (Onnx(), OpenVINO())]
    assert engine.difference(*found, 1e-4, [""] * 60) == ""
    np.testing.assert_allclose(*found, atol=2e-3)


def test_positions_that_start_later(network, encoded):
    network = replace(network, architecture="roberta", config={**network.config, "pad_token_id": 1})
    found = [made.open(network, "f32", 1).run(encoded)["embedding"] for made in (Onnx(), OpenVINO())]
    assert engine.difference(*found, 1e-4, [""] * 60) == ""


def test_what_it_does_not_run_is_told(network, tmp_path):
    assert "not in one safetensors file" in Onnx().supports(replace(network, weights=tmp_path / "x.bin"))
    assert "architecture is 't5'" in Onnx().supports(replace(network, architecture="t5"))
    assert "text encoders only" in Onnx().supports(replace(network, library="timm"))
    config = {**network.config, "num_hidden_layers": 9}
    with pytest.raises(HubError, match=r"no tensor 'encoder\.layer\.3"):
        Onnx().open(replace(network, config=config), "f32", 1)
