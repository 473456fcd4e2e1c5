"""What a writer learns from tables of questions, instructions, prompts, conversations and texts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.dataset import Dataset
from headstart.core.errors import DataError
from headstart.hubs._folder import open_folder
from headstart.objectives import _overlap
from headstart.objectives._dialogues import form_of
from headstart.objectives._written import Scribe
from headstart.objectives.generate import Generate
from headstart.pipelines import _chat
from tests.unit.pipelines import toys

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who wrote the letters?"},
    {"role": "assistant", "content": "Ada."},
    {"role": "user", "content": "Where?"},
    {"role": "assistant", "content": "In London."},
]
PAIRS = {"question": ["Who wrote the letters?", "Where?"], "answer": ["Ada Lovelace wrote them.", "In Paris."]}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Return a network with a chat template and one without; only their tokenizers and configurations are read."""
    pytest.importorskip("jinja2", reason="chat templates need it; `make test-all` installs it")
    from safetensors.numpy import save_file

    root = tmp_path_factory.mktemp("networks")
    extra = {"extra": ["<|im_start|>", "<|im_end|>"], "chat_template": toys.CHAT, "model_max_length": 128}
    found = {}
    for name, more in (("llama", extra), ("gpt2", {})):
        size = toys.bytes_(root / name, **more)
        config = {"model_type": name, "architectures": ["LlamaForCausalLM" if more else "GPT2LMHeadModel"]}
        config |= {"vocab_size": size, "eos_token_id": 0, "max_position_embeddings": 128, "n_positions": 128}
        (root / name / "config.json").write_text(json.dumps(config))
        save_file({"wte.weight": np.zeros((size, 4), np.float32)}, root / name / "model.safetensors")
        found[name] = open_folder(root / name, Backbone("local", str(root / name)))
    return found


def objective(table, **columns):
    dataset = Dataset(table)
    return Generate.of(dataset, range(len(dataset)), columns)


def learnt(network, given):
    """Return the text of the learnt tokens of each row, and that of all tokens."""
    decode = Scribe(network).tokenizer.decode
    parts = np.split(np.arange(len(given["ids"])), np.cumsum(given["lengths"])[:-1])
    texts = [decode(given["ids"][part].tolist(), skip_special_tokens=False) for part in parts]
    kept = [
        decode(given["ids"][part][given["weights"][part] > 0].tolist(), skip_special_tokens=False) for part in parts
    ]
    return kept, texts


@pytest.mark.parametrize(
    ("columns", "kind", "read", "target", "more"),
    [
        (["instruction", "input", "output"], "pair", "instruction", "output", "input"),
        (["id", "Question", "Answer"], "pair", "Question", "Answer", ""),
        (["prompt", "completion"], "prompt", "prompt", "completion", ""),
        (["input", "output"], "pair", "input", "output", ""),
        (["text", "label"], "text", "text", "text", ""),
        (["anything"], "text", "anything", "anything", ""),
    ],
)
def test_columns_are_known_by_their_names(columns, kind, read, target, more):
    form = form_of({name: ["a word"] for name in columns}, {})
    assert (form.kind, form.read, form.target, form.more) == (kind, read, target, more)


def test_columns_can_be_named_and_others_are_asked_for():
    table = {"Frage": ["a"], "Antwort": ["b"], "system": ["c"]}
    form = form_of(table, {"input": "Frage", "target": "Antwort"})
    assert (form.kind, form.read, form.target, form.system) == ("pair", "Frage", "Antwort", "system")
    with pytest.raises(DataError, match="Frage") as wrong:
        form_of(table, {})
    assert "--target" in wrong.value.hint and "completion" in wrong.value.allowed
    with pytest.raises(DataError, match="Fragen"):
        form_of(table, {"input": "Fragen"})


def test_answers_alone_are_learnt_in_the_models_own_template(networks):
    given = objective(PAIRS).examples(networks["llama"], PAIRS, 0).batch(np.array([0, 1]))
    kept, texts = learnt(networks["llama"], given)
    assert kept[0].startswith("Ada Lovelace wrote them.<|im_end|>\n")
    assert kept[1].startswith("In Paris.<|im_end|>\n")
    question = [{"role": "user", "content": "Who wrote the letters?"}]
    assert texts[0].startswith(_chat.prompt(networks["llama"], question) + "Ada Lovelace")
    assert kept[0].endswith("<|endoftext|>"), "the template's end is no end token of this model, so one is added"


@pytest.mark.parametrize("cell", [TALK, json.dumps(TALK), [json.dumps(each) for each in TALK]])
def test_all_that_the_assistant_says_in_a_conversation_is_learnt(networks, cell):
    table = {"messages": [cell]}
    given = objective(table).examples(networks["llama"], table, 0).batch(np.array([0]))
    kept, texts = learnt(networks["llama"], given)
    assert kept == ["Ada.<|im_end|>\nIn London.<|im_end|>\n<|endoftext|>"]
    assert texts[0] == _chat.prompt(networks["llama"], TALK, whole=True) + "<|endoftext|>"


def test_other_names_of_roles_are_understood_and_broken_rows_are_named(networks):
    table = {"conversations": ['[{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "In Paris."}]', None]}
    made = objective(table)
    asked = made.inputs(table)
    assert [each["content"] for each in asked[0]] == ["Where?"] and asked[1] == " "
    rows = made.examples(networks["llama"], table, 0)
    assert learnt(networks["llama"], rows.batch(np.array([0])))[0][0].startswith("In Paris.")
    assert rows.notes == ["1 of 2 rows teach nothing: no answer, or none within reach."]
    assert rows.batch(np.array([1, 0]))["lengths"][0] == 1 and rows.batch(np.array([1]))["weights"].sum() == 0
    broken = {"conversations": [table["conversations"][0], "hello"]}
    with pytest.raises(DataError, match="Row 2"):
        made.examples(networks["llama"], broken, 0)


def test_a_model_without_a_template_is_given_one_which_is_used(networks):
    from dataclasses import replace

    made = objective(PAIRS)
    ready = replace(networks["gpt2"], **made.ready(networks["gpt2"]))
    assert made.ready(networks["llama"]) == {} and made.ready(ready) == {}
    kept, texts = learnt(ready, made.examples(ready, PAIRS, 0).batch(np.array([0])))
    assert texts[0].startswith("### User:\nWho wrote the letters?\n\n### Assistant:\nAda Lovelace")
    assert kept[0] == "Ada Lovelace wrote them.<|endoftext|>\n\n"
    assert texts[0].startswith(_chat.prompt(ready, made.inputs(PAIRS)[0]))


def test_prompts_are_continued_as_they_stand(networks):
    table = {"prompt": ["The capital of France is", "2 + 2 = ", "Nothing"], "completion": ["Paris", "4", None]}
    made = objective(table)
    assert made.ready(networks["gpt2"]) == {} and made.inputs(table) == table["prompt"]
    kept, texts = learnt(networks["gpt2"], made.examples(networks["gpt2"], table, 0).batch(np.array([0, 1])))
    assert kept == [" Paris<|endoftext|>", "4<|endoftext|>"]
    assert texts[0] == "The capital of France is Paris<|endoftext|>"


def test_what_is_too_long_is_cut_counted_and_told(networks):
    table = {"question": ["Why?", toys.LONG, "Where?"], "answer": [toys.LONG, "Because.", "In Paris."]}
    rows = objective(table).examples(networks["llama"], table, 0)
    assert rows.sizes.tolist()[:2] == [128, 1] and rows.sizes[2] < 60
    assert rows.notes[0] == "2 of 3 rows are longer than 128 tokens; their end is cut."
    assert "1 of 3 rows teach nothing" in rows.notes[1]
    assert rows.batch(np.array([0]))["weights"][-1] == 1


def test_each_epoch_reads_another_part_of_a_long_text(networks):
    table = {"text": [toys.LONG, "short", ""]}
    made = objective(table)
    rows = made.examples(networks["gpt2"], table, 0)
    first, second = (rows.batch(np.array([0]), epoch) for epoch in (0, 1))
    assert first["lengths"] == second["lengths"] == [64] and first["weights"].all()
    assert not np.array_equal(first["ids"], second["ids"])
    parts = [rows.batch(np.array([0]), epoch)["ids"] for epoch in range(len(rows.lines[0]))]
    assert learnt(networks["gpt2"], {"ids": np.concatenate(parts), "lengths": [sum(map(len, parts))],
                                     "weights": np.ones(sum(map(len, parts)))})[1][0].startswith(toys.LONG)  # fmt: skip
    assert np.array_equal(rows.batch(np.array([0]), len(parts))["ids"], first["ids"])
    assert made.inputs(table) == [] and made.judge([], table) == {}
    assert len(rows.notes) == 2


def test_rows_without_any_answer_are_refused():
    with pytest.raises(DataError, match="no answer"):
        objective({"question": ["Why?"], "answer": [None]})


def test_answers_are_compared_whole_in_words_and_in_letters():
    made = objective(PAIRS)
    judged = made.judge([{"text": "Ada Lovelace wrote them!"}, {"text": "In London."}], PAIRS)
    assert judged["exact_match"] == 0.5 and judged["word_f1"] == pytest.approx(0.75)
    assert 0.5 < judged["chrf"] < 1 and judged["rows"] == 2
    assert all(judged[f"{name}_ci"][0] <= judged[name] <= judged[f"{name}_ci"][1] for name in _overlap.MEASURES)
    assert json.loads(json.dumps(made.settings())) == made.settings()


def test_how_long_an_answer_may_be_comes_from_the_training_rows():
    assert objective(PAIRS).options == {"temperature": 0.0, "max_tokens": 16}
    long = {"question": ["a", "b"], "answer": ["x" * 300, None]}
    assert objective(long).options["max_tokens"] == 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_measured_is_the_perplexity_of_the_answers(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    network, session = toys.opened(toys.llama(tmp_path), "generate")
    made = objective(PAIRS)
    found = made.measure(network, session, PAIRS, 0)
    given = made.examples(network, PAIRS, 0).batch(np.arange(2))
    with torch.no_grad():
        loss = session.trainable().loss({name: torch.from_numpy(each) for name, each in given.items()}).item()
    assert found["perplexity"] == pytest.approx(np.exp(loss), rel=1e-3)
    assert found["tokens"] == given["weights"].sum()
    size = sum(len(text) for text in PAIRS["answer"])
    assert found["bits_per_byte"] == pytest.approx(loss * found["tokens"] / np.log(2) / size, rel=0.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_writer_is_tuned_and_keeps_a_chat_template_that_the_library_reads(tmp_path, name):
    from dataclasses import replace

    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from headstart.core.course import Course
    from headstart.core.method import Budget
    from headstart.core.progress import Quiet
    from headstart.formats.torch import Torch
    from headstart.methods.finetune import Finetune

    network, before = toys.opened(getattr(toys, name)(tmp_path / "model"), "generate")
    made = objective(PAIRS)
    ready = replace(network, **made.ready(network))
    course = Course(
        network=ready,
        open=lambda each: Torch().open(each, "f32", 1),
        examples=made.examples(ready, PAIRS, 0),
        train=np.arange(2),
        held=np.arange(2),
        lessons={},
        folder=tmp_path / "work",
        seed=0,
        budget=Budget(),
        threads=1,
        progress=Quiet(),
        judge=lambda session: -made.measure(ready, session, PAIRS, 0)["perplexity"],
        options={**made.defaults, "epochs": 12, "rate": 5e-3, "precision": "f32"},
    )
    tuned = Finetune().tune(course)
    after = Torch().open(tuned.network, "f32", 1)
    first, last = (made.measure(ready, each, PAIRS, 0)["perplexity"] for each in (before, after))
    assert last < first / 10 and tuned.score == pytest.approx(-last, rel=1e-3)
    talk = made.inputs(PAIRS)[0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tuned.network.folder)
    wanted = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert _chat.prompt(tuned.network, talk) == _chat.prompt(ready, talk) == wanted
