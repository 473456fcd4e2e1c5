"""Bundles with adapters on one backbone share its weights and its passes, and answer as each does alone."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from headstart.core.adapter import SETTINGS
from headstart.core.backbone import Backbone
from headstart.core.bundle import NETWORK, Bundle
from headstart.core.errors import BundleError
from headstart.core.progress import Quiet
from headstart.core.recipe import Recipe
from headstart.formats import _bert_graph
from headstart.formats.openvino import OpenVINO
from headstart.hubs.local import Local
from headstart.stages import adapters
from headstart.stages.kept import Kept, open_for
from headstart.stages.networks import start
from headstart.stages.save import save
from headstart.testing.networks import write_bert
from tests.unit.core.test_adapter import adapter, drawn

LENGTHS = np.array([4, 3, 40, 2, 7, 48], np.int32)
WORDS = {"embeddings.word_embeddings": (32, 23)}
"""A table that could be adapted, but is no linear layer of a block: its widths (in, out)."""
GIVEN = {"ids": np.random.default_rng(0).integers(5, 20, LENGTHS.sum()).astype(np.int32), "lengths": LENGTHS}


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    # In bf16, an adapter beside the weights and one that is merged into them are rounded at different places.
    monkeypatch.setattr(OpenVINO, "precisions", lambda self: ["f32"])
    return Local().fetch(Backbone.parse(f"local:{write_bert(tmp_path / 'bert')}"), Quiet())


def adapted(base, folder, seed, *, rank=2, layers=(), shapes=None, prefix="", engine="openvino"):
    """Write the bundle of an adapter on a network: of all its layers, or of those that are named."""
    known = shapes or _bert_graph.linears(base)
    halves = {
        prefix + name: (drawn(rank, known[name][0], seed=seed) / 8, drawn(known[name][1], rank, seed=seed) / 8)
        for name in layers or known
    }
    made = adapter(folder / f"adapter{seed}", halves, r=rank)
    opened = start(adapters.merged(base, made), engine)
    with Bundle.create(folder / f"bundle{seed}", NETWORK) as part:
        save(part, Recipe(), [], {}, {"text": replace(opened, tuned="lora", adapter=made, base=base)}, False)
    return Bundle.open(folder / f"bundle{seed}")


@pytest.fixture
def bundles(base, tmp_path):
    return partial(adapted, base, tmp_path)


def vectors(session, given=GIVEN):
    return session.run(given)["embedding"]


def close(given, expected):
    """Whether vectors of unit length are the same but for rounding."""
    return np.all(np.sum(given * expected, axis=1) > 1 - 1e-5) and np.allclose(given, expected, atol=2e-3)


def merged(bundle):
    """Return the vectors of a bundle that is opened by itself, its adapter merged."""
    return vectors(open_for(bundle, Quiet())["text"].session)


def opened(kept, *bundles):
    return [open_for(each, Quiet(), kept)["text"].session for each in bundles]


def test_one_alone_is_merged_and_several_share(bundles):
    every = [
        bundles(1),
        bundles(2, rank=3),  # the others are filled up with zeros
        bundles(3, layers=["encoder.layer.1.output.dense"]),  # and so are layers that it leaves as they are
        bundles(4, prefix="bert."),
    ]
    expected = [merged(each) for each in every]
    assert not any(close(expected[0], each) for each in expected[1:])
    kept = Kept()
    (first,) = opened(kept, every[0])
    assert np.array_equal(vectors(first), expected[0])
    others = opened(kept, *every[1:])
    assert len({id(each.shared) for each in (first, *others)}) == 1
    for session, wanted in zip((first, *others), expected, strict=True):
        assert close(vectors(session), wanted)


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_several_adapters_are_answered_in_one_run(bundles, seed):
    every = [bundles(number) for number in range(3)]
    expected = [merged(each) for each in every]
    sessions = opened(Kept(), *every)
    assert [each.variant for each in sessions] == [0, 1, 2]
    variants = np.random.default_rng(seed).integers(0, 3, len(LENGTHS)).astype(np.int32)
    together = vectors(sessions[0].shared, {**GIVEN, "variant": variants})
    assert close(together, np.stack([expected[variant][row] for row, variant in enumerate(variants)]))


def test_a_place_is_taken_again_when_its_adapter_has_gone(bundles):
    every = [bundles(number) for number in range(4)]
    kept = Kept()
    first, second, third = opened(kept, *every[:3])
    assert third.variant == 2
    assert opened(kept, every[1]) == [second]
    del second
    gc.collect()
    (fourth,) = opened(kept, every[3])
    assert fourth.variant == 1
    for session, bundle in ((first, every[0]), (fourth, every[3]), (third, every[2])):
        assert close(vectors(session), merged(bundle))
    shared = weakref.ref(first.shared)
    del first, third, fourth, session
    gc.collect()
    assert shared() is None  # what nobody runs takes no memory
    (again,) = opened(kept, every[2])
    assert np.array_equal(vectors(again), merged(every[2]))


def test_what_cannot_share_is_merged(bundles):
    every = [bundles(1), bundles(2, shapes=WORDS), bundles(3)]
    expected = [merged(each) for each in every]
    first, second, third = opened(Kept(), *every)
    assert second.shared is second and first.shared is third.shared
    for session, wanted in zip((first, second, third), expected, strict=True):
        assert close(vectors(session), wanted)


def test_an_adapter_that_is_none_is_told(bundles):
    good, bad = bundles(1), bundles(2)
    kept = Kept()
    (first,) = opened(kept, good)
    (bad.path / "adapter" / "text" / SETTINGS).write_text("{}")
    with pytest.raises(BundleError, match="cannot be read"):
        opened(kept, bad)
    assert close(vectors(first), merged(good))


def test_an_engine_that_runs_none_together_leaves_it_to_one_that_does(bundles):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    every = [bundles(number, engine="onnx") for number in range(2)]
    sessions = opened(Kept(), *every)
    assert sessions[0].shared is sessions[1].shared
    for session, bundle in zip(sessions, every, strict=True):
        assert close(vectors(session), merged(bundle))
