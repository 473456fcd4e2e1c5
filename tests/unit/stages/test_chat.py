"""Answers from a FAQ: what is read, what is found, when it is better to say nothing, and who writes."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest

from headstart.cli.main import main
from headstart.core.errors import DataError, UsageError
from headstart.core.source import ReadOptions
from headstart.stages.chat import UNKNOWN, chat
from headstart.stages.faq import read_faq
from headstart.testing.networks import write_bert
from tests.unit.pipelines import toys

FAQ = {
    "Print the label from your account and bring the parcel to any post office.": [
        "How do I send something back?",
        "Where do I return a parcel?",
        "Can I send back what I do not like?",
    ],
    "Two to four working days within the country; up to ten abroad.": [
        "How long does delivery take?",
        "When will my order arrive?",
        "How many days until the parcel is here?",
    ],
    'Choose "Forgotten password" on the login page; a link comes by e-mail.': [
        "How do I reset my password?",
        "I forgot my password",
        "I cannot log in any more",
    ],
    "Write to privacy@example.org; it is deleted within 14 days.": [
        "How do I delete my account?",
        "Please remove all my data",
        "I want to close my account",
    ],
    "We take credit cards, bank transfer and invoices.": [
        "How can I pay?",
        "Which cards do you take?",
        "Can I pay by invoice?",
    ],
}
MARKDOWN = """Welcome to the shop.

# Returns
## How do I send something back?
Print the label.

```sh
# not a heading
```

## When do I get my money back?
Five working days later.

# Account
Write to us.
"""


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "faq.csv"
    with file.open("w", newline="") as opened:
        written = csv.writer(opened)
        written.writerow(["Frage", "Antwort"])
        written.writerows([question, answer] for answer, questions in FAQ.items() for question in questions)
    return file


def read(source, **columns):
    return read_faq(source, columns, ReadOptions())


class TestReading:
    def test_questions_with_one_answer_are_one_entry(self, table):
        entries = read(table)
        assert [each.answer for each in entries] == list(FAQ)
        assert list(entries[1].questions) == FAQ[entries[1].answer]
        assert [each.place for each in entries[:2]] == ["faq.csv, row 1", "faq.csv, row 4"]

    def test_columns_are_named_where_they_are_not_known(self, tmp_path):
        file = tmp_path / "odd.csv"
        file.write_text("a,b\nHow?,So.\n")
        with pytest.raises(DataError, match="not known") as wrong:
            read(file)
        assert "--input" in wrong.value.hint
        assert read(file, input="a", target="b")[0].questions == ("How?",)

    def test_json_lines_may_hold_several_questions_and_instructions_their_input(self, tmp_path):
        file = tmp_path / "faq.jsonl"
        file.write_text('{"question": ["How?", "In what way?"], "answer": "So."}\n{"question": "Why?", "answer": ""}\n')
        (entry,) = read(file)
        assert entry.questions == ("How?", "In what way?")
        file.write_text('{"instruction": "Translate.", "input": "cat", "output": "chat"}\n')
        assert read(file)[0].questions == ("Translate.\n\ncat",)

    def test_headings_are_questions(self, tmp_path):
        file = tmp_path / "shop-faq.md"
        file.write_text(MARKDOWN)
        entries = read(file)
        assert [each.questions[0] for each in entries] == [
            "shop faq", "How do I send something back?", "When do I get my money back?", "Account",
        ]  # fmt: skip
        assert [each.context for each in entries] == ["", "Returns", "Returns", ""]
        assert "# not a heading" in entries[1].answer and entries[1].place == "shop-faq.md, line 4"

    def test_folders_of_texts_and_marked_questions(self, tmp_path):
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "notes.txt").write_text("First.\n\n" + "word " * 400 + "\n\nLast.")
        (tmp_path / "qa.txt").write_text("Q: How?\nQ: In what way?\nA: So.\nAnd so.\n\nQ: Why?\nA: Because.\n")
        (tmp_path / ".hidden.md").write_text("# No\nNo.")
        entries = read(tmp_path)
        assert [each.questions for each in entries[-2:]] == [("How?", "In what way?"), ("Why?",)]
        assert entries[-2].answer == "So.\nAnd so." and entries[-2].place == "qa.txt, line 1"
        passages = [each for each in entries if not each.questions]
        assert [each.answer[:5] for each in passages] == ["First", "word ", "Last."]
        assert all(each.place == os.path.join("deep", "notes.txt") for each in passages)

    @pytest.mark.parametrize("content", ["", "# Only a heading"])
    def test_nothing_to_answer_with_is_an_error(self, tmp_path, content):
        (tmp_path / "faq.md").write_text(content)
        with pytest.raises(DataError, match="nothing to answer"):
            read(tmp_path / "faq.md")


class TestWords:
    """Without a network: shared words alone."""

    def test_a_question_is_answered_with_its_sources(self, table):
        bot = chat(table, backbone="none", top=2)
        found = bot.ask("forgot password")
        assert found["known"] and not found["written"] and "Forgotten password" in found["answer"]
        assert len(found["sources"]) == 2 and found["sources"][0]["place"] == "faq.csv, row 7"
        assert found["sources"][0]["score"] > found["sources"][1]["score"]
        assert found["confidence"] >= bot.threshold

    def test_what_is_not_there_is_not_answered(self, table):
        found = chat(table, backbone="none").ask("zebra crossing yoghurt")
        assert found["answer"] == UNKNOWN and not found["known"] and found["confidence"] < 0.2
        assert len(found["sources"]) == 3

    def test_the_threshold_can_be_given(self, table):
        assert chat(table, backbone="none", threshold=0.0).ask("zebra crossing")["known"]
        assert not chat(table, backbone="none", threshold=1.0).ask("I forgot my password")["known"]
        with pytest.raises(UsageError, match="--threshold"):
            chat(table, threshold=2.0)
        with pytest.raises(UsageError, match="--top"):
            chat(table, top=0)
        with pytest.raises(DataError, match="empty"):
            chat(table, backbone="none").ask(" ")

    def test_one_entry_is_enough(self, tmp_path):
        (tmp_path / "faq.md").write_text("# How do I pay?\nBy card.")
        bot = chat(tmp_path / "faq.md", backbone="none")
        assert bot.ask("How do I pay?")["answer"] == "By card."
        assert not bot.ask("Where is the zebra?")["known"]

    def test_the_confidence_is_fitted_on_the_faqs_own_questions(self, tmp_path):
        rng, file = np.random.default_rng(0), tmp_path / "faq.jsonl"
        topics = [[f"w{topic}x{each}" for each in range(6)] for topic in range(20)]
        rows = [
            {"question": " ".join(rng.choice(words, 4, replace=False)), "answer": f"Topic {number}."}
            for number, words in enumerate(topics)
            for _ in range(4)
        ]
        file.write_text("\n".join(map(json.dumps, rows)))
        trust = chat(file, backbone="none").shelf.trust
        assert trust.right is not None and trust.right > 0.8
        assert trust.silent is not None and trust.silent > 0.8


def test_entries_are_found_by_their_vectors(table, tmp_path):
    backbone = f"local:{write_bert(tmp_path / 'bert')}"
    bot = chat(table, backbone=backbone)
    scores = bot.shelf.scores([FAQ[answer][0] for answer in FAQ])
    assert (scores.argmax(axis=1) == np.arange(len(FAQ))).all()
    assert bot.shelf.vectors.shape == (20, 32)
    words = chat(table, backbone="none").shelf.scores(["order arrived"])
    assert not np.allclose(bot.shelf.scores(["order arrived"]), words)


class TestCommand:
    def ask(self, capsys, *arguments):
        code = main(["chat", *map(str, arguments), "--quiet", "--backbone", "none"])
        return code, capsys.readouterr()

    def test_one_question_between_the_options(self, table, capsys):
        code, told = self.ask(capsys, table, "--top", "1", "I forgot my password")
        assert code == 0 and told.out.startswith('Choose "Forgotten password"')
        assert "[1] How do I reset my password? (faq.csv, row 7)" in told.out
        _, told = self.ask(capsys, table, "I forgot my password", "--json")
        assert json.loads(told.out)["known"] is True

    def test_lines_of_standard_input(self, table, capsys, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO("I forgot my password\n\nzebra\n"))
        _, told = self.ask(capsys, table, "--json")
        assert [each["known"] for each in json.loads(told.out)] == [True, False]
        monkeypatch.setattr("sys.stdin", io.StringIO("zebra\n"))
        _, told = self.ask(capsys, table)
        assert told.out.startswith(UNKNOWN) and "the nearest entries" in told.out
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert json.loads(self.ask(capsys, table, "--json")[1].out) == []

    def test_what_is_wrong_is_a_sentence(self, tmp_path, capsys):
        code, told = self.ask(capsys, tmp_path / "none.md", "Why?")
        assert code > 0 and "There is no file" in told.err
        code, told = self.ask(capsys, tmp_path, "a", "b")
        assert code > 0 and "does not take" in told.err


def generator(folder, name, context):
    """Return the reference of a tiny writer that reads so many tokens."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    room = {"llama": {"max_position_embeddings": context}, "gpt2": {"resid_pdrop": 0.0}}[name]
    made = getattr(toys, name)(folder / name, **room)
    file = made / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": context}))
    return f"local:{made}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestWritten:
    def test_a_model_writes_from_what_was_found(self, table, tmp_path):
        heard: list[str] = []
        bot = chat(table, backbone="none", generator=generator(tmp_path, "llama", 1024), top=2)
        found = bot.ask("I forgot my password", heard.append)
        assert found["written"] and found["known"] and "".join(heard).strip() == found["answer"]
        assert found["answer"] != found["sources"][0]["answer"] and len(found["sources"]) == 2
        assert bot.ask("zebra yoghurt")["written"] is False

    def test_it_is_told_the_passages_and_what_was_said_before(self, table, tmp_path):
        bot = chat(table, backbone="none", generator=generator(tmp_path, "llama", 2048), top=2)
        said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
        bot.said = list(said)
        question = "I forgot my password"
        given, options = bot._prompt(question, bot.shelf.search(question, 2)[0])
        assert given[:2] == said and options["max_tokens"] == 256
        told = given[-1]["content"]
        assert "[1] How do I reset my password?\nChoose" in told and "[2] " in told
        assert told.endswith("Question: I forgot my password")

    def test_passages_are_cut_to_what_it_reads(self, table, tmp_path):
        bot = chat(table, backbone="none", generator=generator(tmp_path, "llama", 384), top=3)
        question = "I forgot my password"
        given, _ = bot._prompt(question, bot.shelf.search(question, 3)[0])
        assert "[1] How" in given[-1]["content"] and "[3]" not in given[-1]["content"]
        assert bot.ask(question)["written"]

    def test_one_without_a_chat_template_continues_a_text(self, table, tmp_path):
        bot = chat(table, backbone="none", generator=generator(tmp_path, "gpt2", 1024))
        given, options = bot._prompt("Why?", bot.shelf.search("I forgot my password", 3)[0])
        assert given.endswith("Question: Why?\nAnswer:") and "\nQuestion:" in options["stop"]
