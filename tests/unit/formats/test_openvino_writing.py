"""Decoders traced into OpenVINO write what PyTorch's library writes, and need PyTorch only once."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("openvino")

from headstart.core.backbone import Backbone  # noqa: E402
from headstart.core.errors import DataError, HubError, UsageError  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats import _openvino_writing, _tracing  # noqa: E402
from headstart.formats.openvino import OpenVINO  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.stages.networks import frozen, start  # noqa: E402
from tests.unit.pipelines import toys  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, PyTorch runs them"),
]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
KINDS = {
    "Llama": ("LlamaForCausalLM", GROUPED),
    "Mistral": ("MistralForCausalLM", {**GROUPED, "sliding_window": None}),
    "Qwen2": ("Qwen2ForCausalLM", GROUPED),
    "Qwen3": ("Qwen3ForCausalLM", {**GROUPED, "head_dim": 8}),
    "GPTNeoX": ("GPTNeoXForCausalLM", SIZES),
    "Phi": ("PhiForCausalLM", SIZES),
    "Gemma": ("GemmaForCausalLM", {**GROUPED, "head_dim": 8}),
    "Granite": ("GraniteForCausalLM", {**GROUPED, "logits_scaling": 4.0}),
    "OPT": ("OPTForCausalLM", {**SIZES, "word_embed_proj_dim": 32, "ffn_dim": 48}),
}
WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = None
import numpy as np
from headstart.stages.networks import start, thaw
from pathlib import Path
opened = start(thaw(Path(sys.argv[2]), json.load(open(sys.argv[1]))))
steps = opened.session.generate({"ids": np.array([5, 6, 7]), "lengths": np.array([3])}, {"max_tokens": 6})
print(opened.format, *(int(step["tokens"][0]) for step in steps))
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def network_in(folder: Path):
    return replace(Local().fetch(Backbone.parse(f"local:{folder}"), Quiet()), use="generate")


def made(kind: str, folder: Path, **settings):
    """Return a tiny random decoder with a tokenizer, on disk."""
    if kind == "GPT2":
        return network_in(toys.gpt2(folder, **settings))
    name, own = KINDS[kind]
    size = toys.bytes_(folder)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=size, bos_token_id=0, eos_token_id=0, pad_token_id=None, **own, **settings
    )
    getattr(transformers, name)(config).save_pretrained(folder)
    return network_in(folder)


def texts(*lengths: int, seed: int = 1) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(seed).integers(1, 250, sum(lengths)).astype(np.int32)
    return {"ids": ids, "lengths": np.array(lengths, np.int32)}


def written(session, given, **settings) -> list[list[int]]:
    steps = [step["tokens"].tolist() for step in session.generate(given, {"max_tokens": 12, **settings})]
    return [list(each) for each in zip(*steps, strict=True)]


@pytest.mark.parametrize("kind", ["GPT2", *KINDS])
def test_it_writes_and_judges_as_the_library_does(kind, tmp_path):
    network = made(kind, tmp_path / "writer")
    opened, theirs = start(network), Torch().open(network, "f32", 1)
    assert opened.format == "openvino"
    given = texts(7, 1, 13)
    for settings in ({}, {"temperature": 1.3, "seed": 3}, {"temperature": 2.0, "top_p": 0.8, "seed": 3}):
        assert written(opened.session, given, **settings) == written(theirs, given, **settings)
    judged = {**texts(9, 1, 0, 30, 2), "weights": np.random.default_rng(0).random(42).astype(np.float32)}
    ours = opened.session.run(judged)["nats"]
    np.testing.assert_allclose(ours, theirs.run(judged)["nats"], rtol=1e-4, atol=1e-4)
    assert ours[1] == ours[2] == 0  # nothing stands before a text's first token


def test_long_texts_go_through_in_pieces(tmp_path, monkeypatch):
    network = made("GPT2", tmp_path / "writer")
    session, theirs = start(network).session, Torch().open(network, "f32", 1)
    monkeypatch.setattr(_openvino_writing, "PIECE", 4)
    monkeypatch.setattr(_openvino_writing, "AT_ONCE", 40)
    assert written(session, texts(50, 3)) == written(theirs, texts(50, 3))
    judged = {**texts(50, 20, 20, 3), "weights": np.ones(93, np.float32)}
    np.testing.assert_allclose(session.run(judged)["nats"], theirs.run(judged)["nats"], rtol=1e-4)


def test_a_network_says_how_its_tokens_are_chosen(tmp_path):
    folder = made("GPT2", tmp_path / "writer").folder
    path = folder / "generation_config.json"
    own = json.loads(path.read_text())
    path.write_text(json.dumps({**own, "repetition_penalty": 1.8, "do_sample": True, "top_k": 5, "eos_token_id": [3]}))
    network = network_in(folder)
    session, theirs = start(network).session, Torch().open(network, "f32", 1)
    given = texts(7, 1, 13)
    found = written(session, given, temperature=0.0)
    assert found == written(theirs, given, temperature=0.0)
    assert all(len(set(row)) == len(row) for row in found)
    assert written(session, given, seed=1) == written(theirs, given, seed=1)
    ended = written(session, given, temperature=0.0, end=[found[0][3]])
    assert ended == written(theirs, given, temperature=0.0, end=[found[0][3]])
    assert ended[0][3:] == [-1] * len(ended[0][3:])
    path.write_text(json.dumps({**own, "no_repeat_ngram_size": 0, "typical_p": 1.0, "suppress_tokens": []}))
    assert OpenVINO().supports(network) == ""
    for asked in ({"no_repeat_ngram_size": 1}, {"min_new_tokens": 1}, {"guidance_scale": 2}):
        path.write_text(json.dumps({**own, **asked}))
        assert next(iter(asked)) in OpenVINO().supports(network)
    assert start(network).format == "torch"
    path.write_text("{")
    with pytest.raises(HubError, match=r"generation_config\.json"):
        OpenVINO().supports(network)


@pytest.mark.parametrize("kind", ["Mistral", "Qwen2"])
def test_a_window_of_attention_is_left_to_the_library(kind, tmp_path):
    window = {"use_sliding_window": True, "max_window_layers": 0} if kind == "Qwen2" else {}
    name, own = KINDS[kind]
    KINDS[f"{kind} "] = (name, {**own, "sliding_window": 4, **window})
    try:
        size = toys.bytes_(tmp_path / "writer")
        config = getattr(transformers, f"{kind}Config")(vocab_size=size, pad_token_id=None, **KINDS[f"{kind} "][1])
        getattr(transformers, name)(config).save_pretrained(tmp_path / "writer")
    finally:
        del KINDS[f"{kind} "]
    assert start(network_in(tmp_path / "writer")).format == "torch"


def test_several_texts_are_written_at_once_from_one_session(tmp_path):
    session = start(made("GPT2", tmp_path / "writer")).session
    one, other = texts(5, seed=1), texts(9, seed=2)
    wanted = written(session, one), written(session, other)
    steps = [session.generate(each, {"max_tokens": 12}) for each in (one, other)]
    found = [[], []]
    for _ in range(12):
        for place, each in enumerate(steps):
            found[place].append(int(next(each)["tokens"][0]))
    assert [[row] for row in found] == list(wanted)


def test_what_it_cannot_read_is_told(tmp_path):
    session = start(made("GPT2", tmp_path / "writer")).session
    with pytest.raises(DataError, match="64 tokens"):
        session.generate(texts(64), {"max_tokens": 3})
    with pytest.raises(DataError, match="no token"):
        session.generate(texts(3, 0), {"max_tokens": 3})
    assert len(written(session, texts(60))[0]) == 4  # as much as there is room for
    assert session.run(texts(3)) == {}


def test_large_ones_are_left_to_the_library(tmp_path, monkeypatch):
    network = made("GPT2", tmp_path / "writer")
    monkeypatch.setattr(_tracing, "available", lambda: 10_000)
    assert "of memory" in OpenVINO().supports(network)
    monkeypatch.setattr(_tracing, "MOST", 1000)
    assert "its graph would take" in OpenVINO().supports(network)


def test_what_was_traced_once_needs_no_pytorch(tmp_path):
    network = made("Llama", tmp_path / "writer")
    opened = start(network)
    (tmp_path / "spec.json").write_text(json.dumps(opened.spec(True) | frozen(network)))
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "spec.json"), str(network.folder)]
    ran = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    ids = {"ids": np.array([5, 6, 7]), "lengths": np.array([3])}
    tokens = [int(step["tokens"][0]) for step in opened.session.generate(ids, {"max_tokens": 6})]
    assert (ran.returncode, ran.stdout.split()) == (0, ["openvino", *map(str, tokens)]), ran.stderr


@pytest.mark.skipif(not importlib.util.find_spec("nncf"), reason="nncf is not installed")
@pytest.mark.parametrize(("form", "apart"), [("f16", 0.01), ("int8", 0.02), ("int4", 0.3)])
def test_narrow_weights(form, apart, tmp_path):
    network = made("Llama", tmp_path / "writer")
    judged = {**texts(9, 30, 12), "weights": np.ones(51, np.float32)}
    wanted = start(network).session.run(judged)["nats"]
    small = OpenVINO().compress(network, form, [], tmp_path / form)
    held = small.weights.with_suffix(".bin").stat().st_size
    assert held < {"f16": 0.7, "int8": 0.6, "int4": 0.5}[form] * network.backbone.size
    opened = start(small)
    assert opened.precision == (form if form != "f16" else OpenVINO().offered(small)[0])
    found = opened.session.run(judged)["nats"]
    assert 0 < np.abs(found - wanted).max() < apart * np.abs(wanted).max()
    assert len(written(opened.session, texts(5))[0]) == 12


def test_four_bits_are_for_networks_that_write(tmp_path):
    folder = toys.bert(tmp_path / "bert", "BertModel")
    network = Local().fetch(Backbone.parse(f"local:{folder}"), Quiet())
    with pytest.raises(UsageError, match="four bits"):
        OpenVINO().compress(network, "int4", [], tmp_path / "int4")
