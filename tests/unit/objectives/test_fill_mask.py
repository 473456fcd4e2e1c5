"""What is hidden of texts to learn a language by, and how well hidden words are told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.dataset import Dataset
from headstart.core.errors import DataError, HubError
from headstart.hubs._folder import open_folder
from headstart.objectives.fill_mask import FillMask
from headstart.training.masking import IGNORED, Words
from tests.unit.pipelines import toys


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Return networks of whose files only tokenizers and configurations are read."""
    from safetensors.numpy import save_file

    root, found = tmp_path_factory.mktemp("networks"), {}
    for name, make in (("bert", toys.wordpiece), ("roberta", lambda at: toys.bytes_(at, roberta=True)),
                       ("gpt2", toys.bytes_)):  # fmt: skip
        size = make(root / name)
        config = {"model_type": name, "architectures": ["BertForMaskedLM"], "vocab_size": size}
        (root / name / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
        save_file({"weight": np.zeros((size, 4), np.float32)}, root / name / "model.safetensors")
        found[name] = open_folder(root / name, Backbone("local", str(root / name)))
    return found


TABLE = {"id": list(range(len(toys.CORPUS))), "text": toys.CORPUS}


def made(table=TABLE, kinds=None, **columns):
    dataset = Dataset(table, kinds=kinds or {})
    return FillMask.of(dataset, range(len(dataset)), columns)


ALL = np.arange(len(toys.CORPUS))


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_about_a_seventh_is_hidden_and_the_answers_are_what_stood_there(networks, name):
    examples = made().examples(networks[name], TABLE, 0)
    words = Words.of(networks[name])
    plain = examples.texts.batch(ALL)
    shown, told, count = [], 0, 0
    for epoch in range(60):
        given = examples.batch(ALL, epoch)
        where = given["answers"] != IGNORED
        assert np.array_equal(given["ids"][~where], plain["ids"][~where])
        assert np.array_equal(given["answers"][where], plain["ids"][where])
        assert np.isin(given["answers"][where], words.plain).all(), "special tokens are never hidden"
        shown.append(given["ids"][where] == words.mask)
        told, count = told + where.sum(), count + np.isin(plain["ids"], words.plain).sum()
    assert told / count == pytest.approx(0.15, abs=0.015)
    assert np.concatenate(shown).mean() == pytest.approx(0.8, abs=0.04)


def test_the_choice_depends_on_seed_epoch_and_row_alone(networks):
    examples = made().examples(networks["bert"], TABLE, 3)
    whole, alone = examples.batch(ALL, 2), examples.batch(np.array([3]), 2)
    end = int(whole["lengths"][:4].sum())
    assert np.array_equal(whole["answers"][end - int(alone["lengths"][0]) : end], alone["answers"])
    for other in (
        examples.batch(ALL, 1),
        examples.batch(ALL),
        made().examples(networks["bert"], TABLE, 4).batch(ALL, 2),
    ):
        assert not np.array_equal(other["answers"], whole["answers"])
    assert np.array_equal(examples.batch(ALL)["ids"], examples.batch(ALL)["ids"])


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_whole_words_are_hidden_whole(networks, name):
    examples = made(words="whole").examples(networks[name], TABLE, 0)
    begins = Words.of(networks[name]).begins
    parts = 0
    for epoch in range(10):
        given = examples.batch(np.array([0]), epoch)
        told = given["answers"] != IGNORED
        ids = examples.texts.batch(np.array([0]))["ids"]
        inside = np.flatnonzero(~begins[ids[2:-1]]) + 2  # later parts of words
        assert np.array_equal(told[inside], told[inside - 1])
        parts += told[inside].sum()
    assert parts > 0


def test_long_texts_come_window_by_window(networks):
    table = {"text": [toys.LONG, "short"]}
    examples = made(table).examples(networks["bert"], table, 0)
    assert examples.sizes.tolist()[0] == 64
    assert "1 of 2 texts are longer than 64 tokens" in examples.notes[0]
    first, second = (examples.texts.batch(np.array([0]), epoch)["ids"] for epoch in (0, 1))
    assert not np.array_equal(first, second)


def test_an_empty_text_hides_nothing(networks):
    table = {"text": ["", None, "my order"]}
    given = made(table).examples(networks["bert"], table, 0).batch(np.arange(3), 0)
    assert (given["answers"] != IGNORED).sum() == 1


def test_the_column_is_found_or_asked_for(networks):
    assert made({"note": ["a"], "n": [1]}, {"note": "text", "n": "number"}).columns == ("note", "note")
    with pytest.raises(DataError, match="not known") as wrong:
        made({"a": ["x"], "b": ["y"]})
    assert "--input" in wrong.value.hint
    with pytest.raises(DataError, match="'c'"):
        made({"a": ["x"], "b": ["y"]}, input="c")
    with pytest.raises(DataError, match="no text"):
        made({"text": [None, " "]})
    with pytest.raises(HubError, match="no mask token"):
        made().examples(networks["gpt2"], TABLE, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_measured_is_the_loss_and_the_share_of_right_tokens(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    network, session = toys.opened(toys.bert(tmp_path, "BertForMaskedLM"), "fill_mask")
    found = made().measure(network, session, TABLE, 0)
    given = made().examples(network, TABLE, 0).batch(ALL)
    with torch.no_grad():
        loss = session.trainable().loss({name: torch.from_numpy(each) for name, each in given.items()}).item()
    assert found["pseudo_perplexity"] == pytest.approx(np.exp(loss), rel=1e-4)
    assert found["pseudo_perplexity_ci"][0] <= found["pseudo_perplexity"] <= found["pseudo_perplexity_ci"][1]
    assert found["tokens"] == (given["answers"] != IGNORED).sum() and 0 <= found["accuracy"] <= 1
    assert found == made().measure(network, session, TABLE, 0)
