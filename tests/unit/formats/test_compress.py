"""Compressed forms of networks: written once, opened without what made them, and as the network was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError, MissingExtra, UsageError
from headstart.formats import _compress
from headstart.formats.openvino import OpenVINO
from headstart.hubs._folder import open_folder
from headstart.modalities.text import Text
from headstart.stages import networks
from headstart.testing.networks import WORDS, write_bert

OPEN = """
import sys
sys.modules["nncf"] = sys.modules["torch"] = None
import numpy as np
from pathlib import Path
from headstart.core.backbone import Backbone, Network
from headstart.formats.openvino import OpenVINO
from headstart.stages.networks import frozen, thaw
import json
spec = json.loads(sys.argv[2])
network = thaw(Path(sys.argv[1]), spec)
session = OpenVINO().open(network, OpenVINO().offered(network)[0], 1)
ids = np.array([2, 5, 6, 3, 2, 7, 3], np.int32)
print(json.dumps(session.run({"ids": ids, "lengths": np.array([4, 3], np.int32)})["embedding"].tolist()))
"""


@pytest.fixture
def network(tmp_path):
    folder = write_bert(tmp_path / "bert", width=64)
    return open_folder(folder, Backbone("local", str(folder)), "")


@pytest.fixture
def encoded(network):
    rng = np.random.default_rng(0)
    texts = np.array([" ".join(rng.choice(WORDS, rng.integers(1, 20))) for _ in range(200)], object)
    return Text(["text"]).bind(network).encode({"text": texts})


def cosines(one, other):
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def run(network, encoded, precision=""):
    engine = OpenVINO()
    return engine.open(network, precision or engine.offered(network)[0], 1).run(encoded)["embedding"]


def test_weights_of_half_width_answer_alike_and_take_half_the_room(network, encoded, tmp_path):
    form = OpenVINO().compress(network, "f16", [], tmp_path / "f16")
    assert _compress.form_of(form) == "f16"
    assert (form.folder / "f16.bin").stat().st_size < 0.6 * network.weights.stat().st_size
    assert cosines(run(network, encoded, "f32"), run(form, encoded, "f32")).min() > 0.9999
    assert (form.folder / form.preprocessing["tokenizer"]).is_file()


def test_eight_bits_answer_nearly_alike_in_a_quarter_of_the_room(network, encoded, tmp_path):
    pytest.importorskip("nncf")
    form = OpenVINO().compress(network, "int8", [encoded], tmp_path / "int8")
    assert list(OpenVINO().offered(form)) == ["int8"]
    assert (form.folder / "int8.bin").stat().st_size < 0.4 * network.weights.stat().st_size
    assert cosines(run(network, encoded, "f32"), run(form, encoded)).mean() > 0.98
    with pytest.raises(UsageError, match=r"no precision 'f32'.*'int8'"):
        OpenVINO().open(form, "f32", 1)


def test_a_form_opens_without_torch_and_without_what_made_it(network, encoded, tmp_path):
    form = OpenVINO().compress(network, "f16", [], tmp_path / "f16")
    opened = networks.start(form, "openvino")
    spec = opened.spec(True)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(form.folder), json.dumps(spec)], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    ids = np.array([2, 5, 6, 3, 2, 7, 3], np.int32)
    own = opened.session.run({"ids": ids, "lengths": np.array([4, 3], np.int32)})["embedding"]
    np.testing.assert_allclose(np.array(json.loads(done.stdout)), own, atol=1e-5)


def test_a_bundle_carries_both_files_of_a_form(network, encoded, tmp_path):
    form = OpenVINO().compress(network, "f16", [], tmp_path / "f16")
    networks.vendor(networks.start(form, "openvino"), tmp_path / "bundle")
    again = networks.thaw(tmp_path / "bundle", networks.start(form, "openvino").spec(True))
    np.testing.assert_array_equal(run(again, encoded), run(form, encoded))
    assert not (tmp_path / "bundle" / "model.safetensors").exists()


def test_ranges_are_chosen_by_at_most_so_many_rows(network, encoded):
    from headstart.formats import openvino

    graph = openvino._graph(network)
    seen = _compress.recorded(graph, openvino._core(), lambda made: openvino._session(made, network), [encoded] * 50)
    assert len(seen) == _compress.MOST
    assert {len(each) for each in seen} == {3}
    assert {each[0].shape[0] for each in seen} == {1}


def test_what_cannot_be_compressed_is_told(network, encoded, tmp_path):
    form = OpenVINO().compress(network, "f16", [], tmp_path / "f16")
    with pytest.raises(UsageError, match=r"no form 'int3'.*'int8', 'f16', 'int4'"):
        OpenVINO().compress(network, "int3", [], tmp_path / "int3")
    with pytest.raises(UsageError, match=r"four bits are for networks that write"):
        OpenVINO().compress(network, "int4", [], tmp_path / "int4")
    with pytest.raises(UsageError, match="no form 'int8'"):
        OpenVINO().compress(form, "int8", [encoded], tmp_path / "int8")
    with pytest.raises((UsageError, MissingExtra), match=r"no rows"):
        OpenVINO().compress(network, "int8", [], tmp_path / "int8")
    form.weights.unlink()
    with pytest.raises(HubError, match="is missing"):
        run(form, encoded)
    assert not (tmp_path / "int8").exists()


def test_quantising_prints_nothing(network, tmp_path, capfd):
    pytest.importorskip("nncf")
    encoded = {"ids": np.tile(np.array([2, 5, 6, 3], np.int32), 8), "lengths": np.full(8, 4, np.int32)}
    capfd.readouterr()
    OpenVINO().compress(network, "int8", [encoded], tmp_path / "int8")
    assert capfd.readouterr() == ("", "")


def test_pictures_are_compressed_as_they_are_traced(tmp_path):
    pytest.importorskip("nncf")
    from headstart.formats._openvino import op, ov

    pixels = op.parameter([-1, 3, 16, 16], np.float32, "pixels")
    rng = np.random.default_rng(0)
    made = op.relu(
        op.convolution(
            pixels, op.constant(rng.normal(size=(8, 3, 3, 3)).astype(np.float32)), [1, 1], [1, 1], [1, 1], [1, 1]
        )
    )
    pooled = op.reduce_mean(made, op.constant(np.array([2, 3], np.int64)), False)
    ov.save_model(ov.Model([op.result(pooled, name="embedding")], [pixels], "tiny"), str(tmp_path / "graph.xml"))
    backbone = Backbone("local", "x", modality="image", width=8, checksum="0" * 64)
    network = Network(tmp_path, "tiny", {"layout": "vector"}, tmp_path / "graph.xml", backbone, {"layout": "nchw"},
                      library="onnx")  # fmt: skip
    given = {"pixels": rng.random((20, 3, 16, 16), np.float32)}
    form = OpenVINO().compress(network, "int8", [given], tmp_path / "int8")
    found = cosines(run(network, given, "f32"), run(form, given))
    assert found.mean() > 0.999
    assert networks.start(replace(form, use="embed"), "openvino").precision == "int8"
