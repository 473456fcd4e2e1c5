"""Vectors of texts that the graph adds up are those that NumPy adds up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("openvino")

from headstart.core.progress import Quiet
from headstart.core.threads import processor_flags
from headstart.formats import _bert_pooled, _packing
from headstart.formats import openvino as engine
from headstart.stages.networks import fetch

LENGTHS = (3, 40, 7, 64, 1, 90, 12, 12, 5)


def network(**pooling):
    made = fetch("builtin:all-MiniLM-L6-v2", "", Quiet())
    return replace(made, pooling={**made.pooling, **pooling})


def texts() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"ids": rng.integers(1000, 20_000, sum(LENGTHS)).astype(np.int32), "lengths": np.array(LENGTHS, np.int32)}


def compiled(graph):
    return engine._core().compile_model(graph, "CPU", engine._settings(engine.OpenVINO(), "f32", 2))


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [True, False])
def test_sums_of_the_graph_are_those_of_numpy(mode, normalize):
    made = network(mode=mode, normalize=normalize)
    graph = engine._graph(made)
    plain = engine.TextSession(compiled(graph), made)
    pooled = engine.TextSession(compiled(_bert_pooled.pooled(graph, made)), made)
    assert (plain.pooled, pooled.pooled) == (False, True)
    theirs, ours = plain.run(texts())["embedding"], pooled.run(texts())["embedding"]
    assert ours.shape == theirs.shape == (len(LENGTHS), 384)
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_the_largest_of_tokens_is_no_sum():
    made = network(mode="max")
    graph = engine._graph(made)
    assert _bert_pooled.pooled(graph, made) is graph


def test_each_token_belongs_to_its_text_alone():
    arrays = texts()
    for packed in _packing.batches(arrays["ids"], arrays["lengths"], 64, 4, 16):
        chosen = _bert_pooled.chosen(packed, network())
        assert chosen.sum() == packed.lengths.sum()
        assert np.array_equal(chosen.sum(axis=1), packed.segment >= 0)
        # One segment in each slot, and each in one slot.
        inside = [
            packed.segment[row][chosen[row, slot] > 0] for row, slot in zip(*np.nonzero(chosen.any(2)), strict=True)
        ]
        assert sorted(int(each[0]) for each in inside) == list(range(len(packed.texts)))
        assert all(len(set(each.tolist())) == 1 for each in inside)


@pytest.mark.skipif("avx512_bf16" not in processor_flags(), reason="this processor does not compute in bfloat16")
def test_all_layers_stay_in_bfloat16():
    made = network()
    session = engine.OpenVINO().open(made, "bf16", 2)
    assert session.pooled
    run = engine.OpenVINO()._compiled(made, "bf16", 2).get_runtime_model()
    told = [each.get_rt_info() for each in run.get_ordered_ops()]
    kinds = [(each["layerType"].value, each["runtimePrecision"].value) for each in told if "layerType" in each]
    assert ("MVN", "bf16") in kinds and ("MVN", "f32") not in kinds
    exact = engine.OpenVINO().open(made, "f32", 2)
    assert not exact.pooled
    theirs, ours = exact.run(texts())["embedding"], session.run(texts())["embedding"]
    # Tokens by chance are harder than texts are.
    assert (theirs * ours).sum(1).min() > 0.999
