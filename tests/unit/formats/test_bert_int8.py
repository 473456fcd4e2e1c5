"""Text encoders with products of eight bits: close to float32, without rows, and only where it is faster."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from headstart.core.backbone import Backbone
from headstart.core.errors import UsageError
from headstart.core.files import cache_folder
from headstart.core.threads import processor_flags
from headstart.formats import _bert_graph, _bert_int8
from headstart.formats._bert_int8 import DYNAMIC
from headstart.formats.openvino import OpenVINO, _core
from headstart.hubs._folder import open_folder
from headstart.modalities.text import Text
from headstart.testing.networks import WORDS, write_bert
from tests.unit.core.test_adapter import adapter, drawn

multiplies = pytest.mark.skipif(
    not _bert_int8.FLAGS & processor_flags(), reason="this processor does not multiply eight-bit numbers"
)
BLOCK = "encoder.layer.{}."


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def able(monkeypatch):
    """A processor that multiplies eight-bit numbers; one that does not widens the weights and gives about the same."""
    monkeypatch.setattr(_bert_int8, "processor_flags", lambda: frozenset({"avx512_vnni"}))


def bert(folder, **options):
    return open_folder(write_bert(folder, **{"width": 128, "layers": 3, **options}), Backbone("local", str(folder)), "")


@pytest.fixture
def network(tmp_path):
    return bert(tmp_path / "bert")


def with_a_large_channel(network):
    """Make one channel of each norm 40 times as large as the others."""
    weights = load_file(network.weights)
    for name in [each for each in weights if each.endswith("LayerNorm.weight")]:
        weights[name][7] *= 40
    save_file(weights, network.weights)
    return network


def texts(network, rows=64):
    rng = np.random.default_rng(0)
    some = np.array([" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(rows)], object)
    return Text(["text"]).bind(network).encode({"text": some})


def run(network, encoded, precision):
    return OpenVINO().open(network, precision, 1).run(encoded)["embedding"]


def cosines(one, other):
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_it_gives_nearly_what_float32_gives(network, able):
    encoded = texts(network)
    exact, rounded = (run(network, encoded, each) for each in ("f32", DYNAMIC))
    assert cosines(exact, rounded).mean() > 0.99  # Random weights forgive less than those of a trained network.
    assert not np.array_equal(exact, rounded)


@multiplies
def test_a_text_has_the_same_vector_whatever_stands_beside_it(network):
    encoded = texts(network)
    together = run(network, encoded, DYNAMIC)
    ends = np.cumsum(encoded["lengths"])
    for row in (0, 31, 63):
        ids = encoded["ids"][ends[row] - encoded["lengths"][row] : ends[row]]
        alone = run(network, {"ids": ids, "lengths": encoded["lengths"][row : row + 1]}, DYNAMIC)
        assert cosines(alone, together[row : row + 1]).min() > 0.9999


@multiplies
def test_large_channels_are_divided(network, monkeypatch):
    encoded = texts(with_a_large_channel(network))
    exact, divided = (run(network, encoded, each) for each in ("f32", DYNAMIC))
    even = {name: np.ones_like(each) for name, each in _bert_int8.channel_sizes(network, _core()).items()}
    monkeypatch.setattr(_bert_int8, "channel_sizes", lambda *_: even)
    plain = run(network, encoded, DYNAMIC)
    assert 1 - cosines(exact, divided).mean() < 0.7 * (1 - cosines(exact, plain).mean())


def test_the_large_channels_are_found(network):
    sizes = _bert_int8.channel_sizes(with_a_large_channel(network), _core())
    assert sorted(sizes) == sorted(
        f"{BLOCK.format(each)}{name}" for each in range(3) for name in ("attention.self.query", "intermediate.dense")
    )
    for each in sizes.values():
        assert each.argmax() == 7
        assert each[7] > 10 * np.median(each)


def test_values_are_not_rounded(network, able):
    weights = load_file(network.weights)
    graph = _bert_int8.rounded(_bert_graph.build(network), network, _core())
    products = _bert_int8._products(graph)
    weighed = {name: products[name].input_value(1).get_node() for name in _bert_int8._roles(network)}
    kept = {name for name, each in weighed.items() if each.get_type_name() == "Constant"}
    assert kept == {f"{BLOCK.format(each)}attention.self.value" for each in range(3)}
    for name in kept:
        assert np.array_equal(weighed[name].get_data(), weights[f"{name}.weight"])


def test_it_is_offered_last_where_the_processor_has_the_products(network, able):
    assert OpenVINO().offered(network) == [*OpenVINO().precisions(), DYNAMIC]


def test_it_is_not_offered_elsewhere(network, tmp_path, monkeypatch):
    monkeypatch.setattr(_bert_int8, "processor_flags", frozenset)
    assert OpenVINO().offered(network) == OpenVINO().precisions()
    with pytest.raises(UsageError, match="no precision 'int8-dynamic'"):
        OpenVINO().open(network, DYNAMIC, 1)


def test_networks_whose_widths_are_not_whole_groups_are_left_alone(tmp_path, able):
    assert OpenVINO().offered(bert(tmp_path / "narrow", width=32)) == OpenVINO().precisions()
    assert OpenVINO().offered(bert(tmp_path / "odd", channels=96)) == OpenVINO().precisions()


def test_a_damaged_file_is_told_when_it_is_opened(network, able):
    network.weights.write_bytes(b"\x08" + bytes(20))
    assert OpenVINO().offered(network) == OpenVINO().precisions()


def test_channels_are_measured_once(network, monkeypatch):
    first = _bert_int8.channel_sizes(network, _core())
    monkeypatch.setattr(_bert_int8, "_measured", lambda *_: pytest.fail("measured again"))
    again = _bert_int8.channel_sizes(network, _core())
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_other_weights_and_a_damaged_file_are_measured_again(network):
    first = _bert_int8.channel_sizes(network, _core())
    (kept,) = (cache_folder() / "ranges").iterdir()
    kept.write_bytes(b"half")
    assert all(np.array_equal(first[name], each) for name, each in _bert_int8.channel_sizes(network, _core()).items())
    other = _bert_int8.channel_sizes(with_a_large_channel(network), _core())
    assert any(not np.array_equal(first[name], each) for name, each in other.items())


def test_a_cache_that_cannot_be_written_costs_time_only(network, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    assert len(_bert_int8.channel_sizes(network, _core())) == 6


def test_adapters_run_beside_it(network, able, tmp_path):
    layer = f"{BLOCK.format(1)}output.dense"
    made = adapter(tmp_path / "a", {layer: (drawn(2, 256), drawn(128, 2))})
    encoded = texts(network)
    found = {}
    for precision in ("f32", DYNAMIC):
        shared = OpenVINO().open_adaptable(network, precision, 1)
        which = np.full(len(encoded["lengths"]), shared.add(made), np.int32)
        found[precision] = shared.run({**encoded, "variant": which})["embedding"]
    assert cosines(found["f32"], found[DYNAMIC]).mean() > 0.99
    assert cosines(found["f32"], run(network, encoded, "f32")).mean() < 0.9


def test_its_peak_is_that_of_eight_bits():
    assert 1e8 < OpenVINO().peak(DYNAMIC, 1) < 1e15
