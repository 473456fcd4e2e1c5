"""Encoders of transformers traced into OpenVINO give what PyTorch gives, for every use."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("openvino")

from headstart.core.backbone import Backbone  # noqa: E402
from headstart.core.errors import HubError  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats import _openvino_reading  # noqa: E402
from headstart.formats.openvino import OpenVINO  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.stages.networks import start  # noqa: E402
from tests.unit.pipelines import toys  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, PyTorch runs them"),
]
HEADS = {
    "classify": "ForSequenceClassification",
    "fill_mask": "ForMaskedLM",
    "tag_tokens": "ForTokenClassification",
    "answer": "ForQuestionAnswering",
    "embed": "Model",
}
KINDS = {
    "Bert": {},
    "Roberta": {"max_position_embeddings": 66},
    "Albert": {"embedding_size": 16},
    "MPNet": {"max_position_embeddings": 66},
    "DebertaV2": {"pos_att_type": ["p2c", "c2p"], "relative_attention": True, "position_buckets": 8},
    "ModernBert": {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "local_attention": 8},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def made(kind: str, use: str, folder, **settings):
    """Return a tiny random encoder with a head, on disk."""
    torch.manual_seed(0)
    sizes = {**toys.SMALL, "vocab_size": toys.bytes_(folder), **KINDS[kind], **settings}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    getattr(transformers, f"{kind}{HEADS[use]}")(config).save_pretrained(folder)
    return replace(Local().fetch(Backbone.parse(f"local:{folder}"), Quiet()), use=use)


def texts(use: str, *lengths: int) -> dict[str, np.ndarray]:
    rng, total = np.random.default_rng(1), sum(lengths)
    given = {"ids": rng.integers(3, 290, total).astype(np.int32), "lengths": np.array(lengths, np.int32)}
    places = {"positions": np.array([0, 2, 5, 11, total - 1], np.int32)} if use == "fill_mask" else {}
    return {**given, **places, "types": rng.integers(0, 2, total).astype(np.int32)}


@pytest.mark.parametrize(
    ("kind", "use"),
    [("Bert", each) for each in HEADS if each != "embed"]
    + [(kind, "embed") for kind in KINDS if kind not in ("Bert", "Roberta")]
    + [("Roberta", "classify"), ("DebertaV2", "answer"), ("ModernBert", "fill_mask"), ("Albert", "tag_tokens")],
)
def test_it_reads_as_in_pytorch(kind, use, tmp_path, monkeypatch):
    network = made(kind, use, tmp_path / "reader")
    opened, theirs = start(network), Torch().open(network, "f32", 1)
    assert opened.format == "openvino"
    monkeypatch.setattr(_openvino_reading, "AT_ONCE", 50)
    given = texts(use, 4, 9, 1, 40, 0, 12)
    ours, wanted = opened.session.run(given), theirs.run(given)
    assert ours.keys() == wanted.keys()
    for name, each in wanted.items():
        np.testing.assert_allclose(ours[name], each, atol=1e-5 * np.abs(each).max())


def test_the_bert_family_is_built_from_its_weights(tmp_path):
    assert not _openvino_reading.concerns(made("Bert", "embed", tmp_path / "reader"))
    assert _openvino_reading.concerns(made("MPNet", "embed", tmp_path / "other"))


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "none"])
def test_poolings(mode, tmp_path):
    network = made("MPNet", "embed", tmp_path / "reader")
    network = replace(network, pooling={"mode": mode, "normalize": mode == "max"})
    given = texts("embed", 4, 9, 1)
    session = start(replace(network, pooling={}), "openvino").session
    session.network = network
    if mode == "none":
        with pytest.raises(HubError, match="no pooling"):
            session.run(given)
        return
    wanted = Torch().open(network, "f32", 1).run(given)["embedding"]
    np.testing.assert_allclose(session.run(given)["embedding"], wanted, atol=1e-5)


def test_what_reads_long_texts_otherwise_is_left_to_pytorch(tmp_path):
    KINDS["BigBird"] = {"block_size": 4, "num_random_blocks": 1, "attention_type": "block_sparse"}
    try:
        network = made("BigBird", "embed", tmp_path / "reader", max_position_embeddings=128)
    finally:
        del KINDS["BigBird"]
    assert start(network).format == "torch"


@pytest.mark.skipif(not importlib.util.find_spec("nncf"), reason="nncf is not installed")
def test_eight_bits(tmp_path):
    network = made("MPNet", "embed", tmp_path / "reader", hidden_size=64, intermediate_size=256, num_hidden_layers=3)
    given = texts("embed", *range(4, 30))
    small = OpenVINO().compress(network, "int8", [given], tmp_path / "int8")
    theirs = start(network).session.run(given)["embedding"]
    ours = start(small).session.run(given)["embedding"]
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() > 0.98 and np.abs(ours - theirs).max() > 0
