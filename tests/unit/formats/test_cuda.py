"""Networks on a GPU: texts without padding, recorded passes and sizes of batches; what needs none runs without one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core import gpu as found
from headstart.core.backbone import Backbone
from headstart.core.gpu import gpu, machine
from headstart.core.threads import processor
from headstart.formats.torch import Torch
from headstart.hubs._folder import open_folder
from headstart.testing.networks import write_bert
from tests.unit.pipelines import toys

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
FAMILIES = {"bert": "BertModel", "roberta": "RobertaModel"}


def encoder(tmp_path, family="bert", mode="mean"):
    folder = getattr(toys, family)(tmp_path, FAMILIES[family])
    pooling = {"mode": mode, "normalize": True}
    return replace(open_folder(folder, Backbone("local", str(folder))), use="embed", pooling=pooling)


def texts(network, count, seed=0):
    chance = np.random.default_rng(seed)
    lengths = chance.integers(1, network.preprocessing["max_length"], count).astype(np.int32)
    return {"ids": chance.integers(5, network.config["vocab_size"], lengths.sum()).astype(np.int32), "lengths": lengths}


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_padding_the_vectors_are_the_same(tmp_path, family, mode):
    network = encoder(tmp_path, family, mode)
    session, some = Torch().open(network, "f32", 1), texts(network, 20)
    if session.device != "cpu" and session.device.type != "cpu":
        pytest.skip("on a GPU this attention computes in halves only")
    wanted = session.run(some)["embedding"]
    flat = session.built.flat()
    ends = np.cumsum(some["lengths"])
    places = np.arange(ends[-1]) - np.repeat(ends - some["lengths"], some["lengths"])
    given = {
        # Three tokens stand behind the last text and are of none.
        "ids": torch.from_numpy(np.append(some["ids"], [7, 7, 7])[None].astype(np.int64)),
        "positions": torch.from_numpy(np.append(places, [0, 0, 0])[None] + flat.first),
        "edges": torch.from_numpy(np.append(0, ends).astype(np.int32)),
    }
    with torch.inference_mode():
        found = flat.vectors(given, 64)["embedding"].numpy()
    assert (1 - (found * wanted).sum(1)).max() < 1e-6
    assert session.run(some)["embedding"] == pytest.approx(wanted, abs=1e-6), "the usual attention is in place again"


def test_networks_that_look_elsewhere_are_padded(tmp_path):
    size = toys.wordpiece(tmp_path)
    config = transformers.DistilBertConfig(vocab_size=size, dim=32, n_layers=1, n_heads=2, hidden_dim=32)
    transformers.DistilBertModel(config).save_pretrained(tmp_path)
    network = replace(open_folder(tmp_path, Backbone("local", str(tmp_path))), use="embed")
    assert Torch().open(network, "f32", 1).built.flat() is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 1000))
def test_each_text_is_in_one_batch_and_batches_are_full(lengths, budget):
    from headstart.formats._cuda import cuts

    ends = np.cumsum(lengths)
    parts = list(cuts(ends, budget))
    assert [text for first, last in parts for text in range(first, last)] == list(range(len(lengths)))
    for first, last in parts:
        assert sum(lengths[first:last]) <= budget or last == first + 1
        assert last == len(lengths) or sum(lengths[first : last + 1]) > budget


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**6))
def test_few_shapes_occur_and_little_is_wasted(count):
    from headstart.formats._cuda import rounded

    room = rounded(count, 64)
    assert count <= room < max(65, count * 1.25 + 1)
    assert rounded(room, 64) == room
    assert len({rounded(each, 64) for each in range(1, 4097)}) <= 30


def test_the_smallest_size_that_does_as_well_is_taken():
    from headstart.formats._cuda import fastest

    def seconds(size):
        if size > 64:
            raise torch.OutOfMemoryError
        return {16: 16.0, 32: 16.5, 64: 32.0}[size]

    assert fastest(seconds, (16, 32, 64, 128, 256)) == 32
    assert fastest(lambda size: 1.0, (16, 32)) == 32
    assert fastest(float, (16, 32)) == 16


def test_a_gpu_is_told_by_its_driver_and_can_be_hidden(tmp_path, monkeypatch):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    monkeypatch.setattr(found, "DRIVER", tmp_path)
    monkeypatch.setattr(found, "_built_for_one", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found._name.cache_clear()
    try:
        assert gpu() == "NVIDIA H100 80GB HBM3"
        assert machine() == f"{processor()}, NVIDIA H100 80GB HBM3"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        assert gpu() == ""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        monkeypatch.setattr(found, "_built_for_one", lambda: False)
        assert gpu() == "", "PyTorch is built without it"
        monkeypatch.setattr(found, "_built_for_one", lambda: True)
        monkeypatch.setattr(found, "DEVICES", (str(tmp_path / "none"),))
        monkeypatch.setattr(found, "DRIVER", Path(tmp_path / "none"))
        found._name.cache_clear()
        assert gpu() == ""
    finally:
        found._name.cache_clear()


UNUSABLE = """
import sys
from headstart.formats import torch as engine
engine.gpu = lambda: "a GPU whose driver is too old"
from headstart.core.backbone import Backbone
from headstart.core.progress import Quiet
from headstart.hubs.local import Local
from headstart.stages.networks import start
assert "torch" not in sys.modules
network = Local().fetch(Backbone.parse("local:" + sys.argv[1]), Quiet())
for wanted in ("", "torch"):
    print(start(network, wanted).format)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU here can be used")
def test_a_gpu_that_pytorch_cannot_use_does_not_make_it_the_first(tmp_path):
    folder = write_bert(tmp_path / "bert")
    done = subprocess.run([sys.executable, "-c", UNUSABLE, str(folder)], capture_output=True, text=True)
    assert done.stdout.split() == ["openvino", "torch"], done.stderr


@needs_gpu
@pytest.mark.parametrize("precision", ["bf16", "f16"])
@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("family", FAMILIES)
def test_halves_on_a_gpu_give_the_same_vectors_however_often(tmp_path, family, mode, precision):
    network = encoder(tmp_path, family, mode)
    exact, quick = (Torch().open(network, each, 1) for each in ("f32", precision))
    assert quick.fast.fast is not None
    for seed in (0, 0, 0, 1, 2):
        some = texts(network, 200, seed)
        wanted = exact.run(some)["embedding"]
        assert (1 - (quick.run(some)["embedding"] * wanted).sum(1)).max() < 2e-3
    one = {"ids": some["ids"][: some["lengths"][0]], "lengths": some["lengths"][:1]}
    for _ in range(4):
        assert quick.run(one)["embedding"][0] @ wanted[0] > 0.998
    recorded = quick.fast.fast.run_once
    assert recorded.able and len(recorded._graphs) >= 2


@needs_gpu
def test_a_text_without_tokens_is_read_as_on_a_cpu(tmp_path):
    network = encoder(tmp_path)
    some = texts(network, 5)
    some["lengths"] = np.append(some["lengths"], 0).astype(np.int32)
    exact, quick = (Torch().open(network, each, 1).run(some)["embedding"] for each in ("f32", "bf16"))
    assert np.isfinite(quick).all() and (exact * quick).sum(1).min() > 0.998


@needs_gpu
def test_many_tokens_set_the_size_of_a_batch(tmp_path):
    network = encoder(tmp_path)
    exact, quick = (Torch().open(network, each, 1) for each in ("f32", "bf16"))
    some = texts(network, 3000)
    for _ in range(3):
        assert (quick.run(some)["embedding"] * exact.run(some)["embedding"]).sum(1).min() > 0.998
    from headstart.formats._cuda import TOKENS

    assert quick.fast.fast.size in TOKENS
