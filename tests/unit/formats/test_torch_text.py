"""Text networks in PyTorch: the same vectors as OpenVINO's, any batch, and no weights made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError
from headstart.formats.openvino import OpenVINO
from headstart.formats.torch import Torch
from headstart.hubs._folder import open_folder
from tests.unit.pipelines import toys

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def texts(network, count=60):
    """Return texts of very different lengths as tokens, one of them without any."""
    chance = np.random.default_rng(0)
    lengths = np.append(chance.integers(1, network.preprocessing["max_length"], count), 0).astype(np.int32)
    return {"ids": chance.integers(5, network.config["vocab_size"], lengths.sum()).astype(np.int32), "lengths": lengths}


def at(folder, use, **changes):
    return replace(open_folder(folder, Backbone("local", str(folder))), use=use, **changes)


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_vectors_are_openvinos(tmp_path, mode, family):
    folder = getattr(toys, family)(tmp_path, "BertModel" if family == "bert" else "RobertaModel")
    network = at(folder, "embed", pooling={"mode": mode, "normalize": True})
    given = texts(network)
    given["lengths"] = given["lengths"][:-1]
    wanted = OpenVINO().open(network, "f32", 1).run(given)["embedding"]
    found = Torch().open(network, "f32", 1).run(given)["embedding"]
    assert (1 - (found * wanted).sum(1)).max() < 1e-5


def test_the_batch_makes_no_difference(tmp_path, monkeypatch):
    network = at(toys.bert(tmp_path, "BertForTokenClassification", num_labels=3), "tag_tokens")
    given, session = texts(network), Torch().open(network, "f32", 1)
    together = session.run(given)["logits"]
    from headstart.formats import _transformers_text

    monkeypatch.setitem(_transformers_text.BUDGET, "cpu", 1)
    assert session.run(given)["logits"] == pytest.approx(together, abs=1e-5)
    assert len(together) == given["lengths"].sum()


@pytest.mark.parametrize(
    "name", ["BertForMaskedLM", "DistilBertForMaskedLM", "RobertaForMaskedLM", "ElectraForMaskedLM"]
)
def test_the_masks_head_runs_at_the_masks_only(tmp_path, name):
    size = toys.wordpiece(tmp_path)
    kind = getattr(transformers, name.replace("ForMaskedLM", "Config"))
    narrow = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48} if "Distil" in name else toys.SMALL
    config = kind(**narrow, vocab_size=size)
    folder = toys.saved(tmp_path, getattr(transformers, name)(config))
    network = at(folder, "fill_mask")
    lengths, ids = np.array([5, 9, 3], np.int32), np.arange(5, 22, dtype=np.int32)
    positions = np.array([2, 6, 9, 16], np.int32)
    found = Torch().open(network, "f32", 1).run({"ids": ids, "lengths": lengths, "positions": positions})["logits"]
    model = getattr(transformers, name).from_pretrained(folder)
    with torch.no_grad():
        each = [model(torch.from_numpy(part[None])).logits[0].numpy() for part in np.split(ids, [5, 14])]
    assert found == pytest.approx(np.concatenate(each)[positions], abs=1e-4)


def test_a_text_without_tokens_gives_an_answer_of_its_own(tmp_path):
    network = at(toys.gpt2(tmp_path, "GPT2Model"), "embed")
    given = texts(network)
    found = Torch().open(network, "f32", 1).run(given)["embedding"]
    assert np.isfinite(found).all() and found.shape == (61, 32)


@pytest.mark.parametrize(
    ("saved", "use", "named"),
    [
        ("BertModel", "fill_mask", "cls.predictions"),
        ("BertForMaskedLM", "classify", "classifier"),
        ("BertForMaskedLM", "answer", "qa_outputs"),
        ("BertModel", "tag_tokens", "random"),
    ],
)
def test_a_head_that_was_never_trained_is_refused(tmp_path, saved, use, named):
    network = at(toys.bert(tmp_path, saved), use)
    with pytest.raises(HubError, match=named):
        Torch().open(network, "f32", 1)


def test_an_encoder_without_its_pooling_layer_embeds(tmp_path):
    network = at(toys.bert(tmp_path, "BertForMaskedLM"), "embed")
    assert Torch().open(network, "f32", 1).run(texts(network))["embedding"].shape == (61, 32)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    folder = toys.bert(tmp_path, "BertForSequenceClassification", num_labels=3)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
    with pytest.raises(HubError, match="cannot be opened"):
        Torch().open(at(folder, "classify"), "f32", 1)


def test_damaged_and_unknown_folders_are_sentences(tmp_path):
    folder = toys.bert(tmp_path, "BertForMaskedLM")
    network = at(folder, "fill_mask")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(HubError, match="cannot be opened"):
        Torch().open(network, "f32", 1)
    (folder / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(HubError, match="no-such-thing"):
        Torch().open(network, "f32", 1)


def test_old_checkpoints_and_other_weights_are_read_as_tensors(tmp_path):
    folder = toys.bert(tmp_path / "model", "BertForMaskedLM")
    given = {"ids": np.arange(5, 15, dtype=np.int32), "lengths": np.array([10], np.int32)}
    given["positions"] = np.array([3], np.int32)
    wanted = Torch().open(at(folder, "fill_mask"), "f32", 1).run(given)["logits"]
    state = transformers.BertForMaskedLM.from_pretrained(folder).state_dict()
    moved = {name: each + 1 if name == "bert.embeddings.LayerNorm.bias" else each for name, each in state.items()}
    torch.save(state, folder / "pytorch_model.bin")
    torch.save({"state_dict": moved}, tmp_path / "other.pth")
    (folder / "model.safetensors").unlink()
    network = at(folder, "fill_mask")
    assert network.weights.name == "pytorch_model.bin"
    assert Torch().open(network, "f32", 1).run(given)["logits"] == pytest.approx(wanted, abs=1e-5)
    other = replace(network, backbone=replace(network.backbone, weights=str(tmp_path / "other.pth")))
    assert not np.allclose(Torch().open(other, "f32", 1).run(given)["logits"], wanted)


def test_a_checkpoint_that_holds_code_is_refused(tmp_path):
    folder = toys.bert(tmp_path, "BertForMaskedLM")
    network = at(folder, "fill_mask")
    (folder / "model.safetensors").unlink()
    torch.save({"weights": print}, folder / "pytorch_model.bin")
    with pytest.raises(HubError, match="more than tensors"):
        Torch().open(network, "f32", 1)


def test_weights_in_no_one_safetensors_file_are_left_to_torch(tmp_path):
    folder = toys.bert(tmp_path, "BertForMaskedLM")
    network = at(folder, "fill_mask")
    shards = replace(network, weights=folder / "model.safetensors.index.json")
    assert OpenVINO().supports(network) == "" and "one file" in OpenVINO().supports(shards)
    assert OpenVINO().supports(at(folder, "embed")) == Torch().supports(at(folder, "fill_mask")) == ""
