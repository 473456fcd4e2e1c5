"""A bundle that carries an adapter opens as the tuned network, without PyTorch, and what is kept is checked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.bundle import NETWORK, Bundle
from headstart.core.errors import BundleError
from headstart.core.progress import Quiet
from headstart.core.recipe import Recipe
from headstart.hubs.local import Local
from headstart.stages import adapters
from headstart.stages.kept import open_for
from headstart.stages.networks import start
from headstart.stages.save import save
from headstart.testing.networks import write_bert
from tests.unit.core.test_adapter import adapter, drawn

LAYER = "encoder.layer.1.output.dense"
GIVEN = {"ids": np.array([2, 6, 7, 3, 2, 8, 3], np.int32), "lengths": np.array([4, 3], np.int32)}


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return Local().fetch(Backbone.parse(f"local:{write_bert(tmp_path / 'bert')}"), Quiet())


def vectors(opened):
    return opened.session.run(GIVEN)["embedding"]


def test_it_is_merged_once_and_again_where_it_is_damaged(base, tmp_path):
    made = adapter(tmp_path / "a", {LAYER: (drawn(2, 64), drawn(32, 2))})
    first = adapters.merged(base, made)
    assert first.backbone.checksum != base.backbone.checksum
    assert not np.allclose(vectors(start(first)), vectors(start(base)), atol=1e-3)
    changed = first.weights.stat().st_mtime_ns
    again = adapters.merged(base, made)
    assert again.weights.stat().st_mtime_ns == changed
    assert again == first
    first.weights.write_bytes(b"torn")
    assert adapters.merged(base, made).backbone.checksum == first.backbone.checksum
    other = adapter(tmp_path / "b", {LAYER: (drawn(2, 64, seed=1), drawn(32, 2))})
    assert adapters.merged(base, other).folder != first.folder


@pytest.mark.parametrize("portable", [False, True])
def test_a_bundle_carries_the_adapter_or_the_merged_weights(base, tmp_path, portable):
    made = adapter(tmp_path / "a", {LAYER: (drawn(2, 64), drawn(32, 2))})
    opened = replace(start(adapters.merged(base, made)), tuned="lora", adapter=made, base=base)
    with Bundle.create(tmp_path / "bundle", NETWORK) as part:
        save(part, Recipe(), [], {}, {"text": opened}, portable)
    bundle = Bundle.open(tmp_path / "bundle")
    spec = bundle.json("backbones.json")["text"]
    assert spec["portable"] is portable
    assert spec["adapter"] is not portable
    assert (bundle.path / "backbone").exists() is portable
    assert spec["checksum"] == (opened.network if portable else base).backbone.checksum
    found = open_for(bundle, Quiet())["text"]
    assert found.tuned == "lora"
    assert np.array_equal(vectors(found), vectors(opened))


def test_an_adapter_of_another_network_is_told(base, tmp_path):
    made = adapter(tmp_path / "a", {LAYER: (drawn(2, 64), drawn(32, 2))})
    opened = replace(start(adapters.merged(base, made)), tuned="lora", adapter=made, base=base)
    with Bundle.create(tmp_path / "bundle", NETWORK) as part:
        save(part, Recipe(), [], {}, {"text": opened}, False)
    write_bert(base.folder, seed=1)
    with pytest.raises(BundleError, match="SHA-256 differs"):
        open_for(Bundle.open(tmp_path / "bundle"), Quiet())
