"""Text that networks write, next to what the transformers library's own pipeline and chat templates give."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from headstart import pipelines
from headstart.core.errors import DataError, HubError, UsageError
from headstart.pipelines import _chat
from tests.unit.pipelines import toys

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PROMPTS = ["once upon a time", "Who wrote", "The goal of AI is to replace human"]


@pytest.fixture(scope="module")
def writers(tmp_path_factory):
    root = tmp_path_factory.mktemp("writers")
    folders = {"gpt2": toys.gpt2(root / "gpt2"), "llama": toys.llama(root / "llama")}
    return {name: (folder, *toys.opened(folder, "generate")) for name, folder in folders.items()}


def ours(writer, inputs, **options):
    _, network, session = writer
    pipeline = pipelines.registry.get("generate")()
    return pipeline.run(network, session, inputs, pipeline.settle(options))


def streamed(writer, given, **options):
    _, network, session = writer
    pipeline = pipelines.registry.get("generate")()
    return list(pipeline.stream(network, session, given, pipeline.settle(options)))


@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_greedy_text_is_the_librarys_alone_and_side_by_side(writers, model):
    folder = writers[model][0]
    pipe = transformers.pipeline("text-generation", model=str(folder), tokenizer=str(folder))
    records = ours(writers[model], PROMPTS, max_tokens=20, temperature=0)
    for text, record in zip(PROMPTS, records, strict=True):
        (wanted,) = pipe(text, max_new_tokens=20, do_sample=False, return_full_text=False)
        assert record["text"] == wanted["generated_text"]
        assert ours(writers[model], [text], max_tokens=20, temperature=0) == [record]
    assert len({each["text"] for each in records}) == 3


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": 1.5, "seed": 4}, {"temperature": 3.0, "seed": 5}]
)
def test_the_pieces_of_a_stream_are_the_whole_text(writers, options):
    pieces = streamed(writers["gpt2"], PROMPTS[0], max_tokens=40, **options)
    (record,) = ours(writers["gpt2"], PROMPTS[:1], max_tokens=40, **options)
    assert "".join(pieces) == record["text"] and len(pieces) > 5


def test_a_seed_repeats_a_text_whatever_stands_beside_it(writers):
    options = {"max_tokens": 20, "temperature": 1.0, "seed": 7}
    alone = ours(writers["gpt2"], PROMPTS[1:2], **options)[0]
    assert ours(writers["gpt2"], PROMPTS, **options)[1] == alone
    assert ours(writers["gpt2"], PROMPTS[1:2], **{**options, "seed": 8})[0] != alone


def test_a_stop_word_is_cut_out_exactly(writers):
    (whole,) = ours(writers["gpt2"], PROMPTS[:1], max_tokens=40, temperature=1.0, seed=1)
    stop = whole["text"][11:15]
    first = whole["text"].index(stop)
    (record,) = ours(writers["gpt2"], PROMPTS[:1], max_tokens=40, temperature=1.0, seed=1, stop=[stop, "never there"])
    assert record["text"] == whole["text"][:first] and record["ended"] == "stop"
    assert (
        "".join(streamed(writers["gpt2"], PROMPTS[0], max_tokens=40, temperature=1.0, seed=1, stop=stop))
        == (whole["text"][:first])
    )


def test_the_end_token_ends_a_text_and_only_that_one(writers):
    _, network, session = writers["llama"]
    pipeline = pipelines.registry.get("generate")()
    lengths = [
        [record["tokens"], record["ended"]]
        for seed in range(6)
        for record in pipeline.run(
            network, session, PROMPTS, pipeline.settle({"max_tokens": 60, "temperature": 6.0, "seed": seed})
        )
    ]
    assert any(ended == "end" and count < 60 for count, ended in lengths)
    assert all(count == 60 for count, ended in lengths if ended == "length")


def test_the_networks_own_settings_are_its_default(tmp_path):
    folder = toys.gpt2(tmp_path)
    settings = {"do_sample": True, "temperature": 0.7, "top_k": 5, "eos_token_id": 0, "bos_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    writer = (folder, *toys.opened(folder, "generate"))
    own = ours(writer, PROMPTS[:1], max_tokens=20, seed=3)
    assert own != ours(writer, PROMPTS[:1], max_tokens=20, seed=3, temperature=0)
    assert own == ours(writer, PROMPTS[:1], max_tokens=20, seed=3, temperature=0.7)


def test_leaving_a_stream_ends_its_thread(writers):
    _, network, session = writers["llama"]
    pipeline = pipelines.registry.get("generate")()
    before = threading.active_count()
    stream = pipeline.stream(network, session, "once", pipeline.settle({"max_tokens": 100, "temperature": 0}))
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_a_stream_can_be_read_in_several_threads(writers):
    _, network, session = writers["gpt2"]
    pipeline = pipelines.registry.get("generate")()
    options = pipeline.settle({"max_tokens": 10, "temperature": 0})
    stream, found = pipeline.stream(network, session, PROMPTS[0], options), []
    while True:
        step = []
        thread = threading.Thread(target=lambda into: into.append(next(stream, None)), args=(step,))
        thread.start()
        thread.join()
        if step[0] is None:
            break
        found.append(step[0])
    assert "".join(found) == pipeline.run(network, session, PROMPTS[:1], options)[0]["text"]


def test_text_stops_at_what_the_network_can_read(writers):
    (record,) = ours(writers["gpt2"], ["once"], max_tokens=500, temperature=0)
    assert record["ended"] == "length" and 40 < record["tokens"] < 64
    with pytest.raises(DataError, match="tokens"):
        ours(writers["gpt2"], [toys.LONG])


def test_an_empty_prompt_begins_with_the_networks_own_token(writers):
    assert ours(writers["gpt2"], [""], max_tokens=5, temperature=5.0, seed=1)[0]["tokens"] == 5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_tokens": 0}, "--max-tokens"),
        ({"temperature": -1.0}, "--temperature"),
        ({"top_p": 0.0}, "--top-p"),
        ({"seed": -1}, "--seed"),
        ({"chat": True}, "chat template"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_options_that_cannot_be_used_are_refused(writers, options, named):
    with pytest.raises(UsageError, match=named):
        ours(writers["gpt2"], ["once"], **options)


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who wrote the letters?"},
    {"role": "assistant", "content": "Ada."},
    {"role": "user", "content": "Where?"},
]


class TestChat:
    def test_the_prompt_is_the_librarys(self, writers):
        folder, network, _ = writers["llama"]
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        wanted = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
        assert _chat.prompt(network, TALK) == wanted and wanted.endswith("assistant\n")

    def test_the_answer_is_the_librarys(self, writers):
        folder = writers["llama"][0]
        pipe = transformers.pipeline("text-generation", model=str(folder), tokenizer=str(folder))
        wanted = pipe(TALK, max_new_tokens=12, do_sample=False)[0]["generated_text"][-1]["content"]
        (record,) = ours(writers["llama"], [TALK], max_tokens=12, temperature=0)
        assert record["text"] == wanted

    def test_text_system_and_json_make_the_same_conversation(self, writers):
        talk = TALK[:2]
        wanted = ours(writers["llama"], [talk], max_tokens=8, temperature=0)
        said = {"system": "Be brief.", "max_tokens": 8, "temperature": 0}
        assert ours(writers["llama"], ["Who wrote the letters?"], **said) == wanted
        assert ours(writers["llama"], [json.dumps(talk)], chat=True, max_tokens=8, temperature=0) == wanted

    def test_a_broken_message_is_named(self, writers):
        with pytest.raises(DataError, match="role"):
            ours(writers["llama"], [[{"role": "king", "content": "Hello"}]])

    @pytest.mark.parametrize(
        ("template", "error", "named"),
        [
            ("{{ raise_exception('no system words here') }}", DataError, "no system words"),
            ("{% for each in messages %}", HubError, "broken"),
            ("{{ messages.__class__.__mro__ }}", DataError, "refuses"),
        ],
    )
    def test_templates_are_kept_in_a_sandbox(self, tmp_path, template, error, named):
        folder = toys.llama(tmp_path)
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        network, _ = toys.opened(folder, "generate")
        with pytest.raises(error, match=named):
            _chat.prompt(network, TALK)

    def test_what_templates_use_is_there(self, tmp_path):
        folder = toys.llama(tmp_path)
        template = (
            "{{ bos_token }}{% for each in messages %}{% if loop.index > 2 %}{% break %}{% endif %}"
            "{% generation %}{{ each | tojson }}{% endgeneration %}{% endfor %}{{ strftime_now('%Y') }}"
        )
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        network, _ = toys.opened(folder, "generate")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        wanted = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
        assert _chat.prompt(network, TALK) == wanted and '{"role": "system"' in wanted


def test_an_encoder_with_a_decoder_writes(tmp_path):
    size = toys.bytes_(tmp_path, roberta=True)
    config = transformers.T5Config(
        vocab_size=size, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=1,
        eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    folder = toys.saved(tmp_path, transformers.T5ForConditionalGeneration(config))
    network, session = toys.opened(folder, "generate")
    pipeline = pipelines.registry.get("generate")()
    records = pipeline.run(network, session, PROMPTS, pipeline.settle({"max_tokens": 12, "temperature": 0}))
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, record in zip(PROMPTS, records, strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids
        written = model.generate(ids, max_new_tokens=12, do_sample=False)[0]
        assert record["text"] == tokenizer.decode(written, skip_special_tokens=True)
    assert np.unique([each["text"] for each in records]).size == 3
