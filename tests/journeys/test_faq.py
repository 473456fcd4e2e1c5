"""A FAQ of real questions, asked in other words."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from headstart.stages.chat import chat

pytestmark = pytest.mark.slow
EACH = 3
"""Questions of each answer in the FAQ."""


def rows(file):
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_questions_in_other_words_find_their_answers(shared, tmp_path):
    chance, by_topic = np.random.default_rng(0), {}
    for row in rows(shared / "banking77" / "train.csv"):
        by_topic.setdefault(row["category"], []).append(row["text"])
    faq = tmp_path / "faq.csv"
    with faq.open("w", encoding="utf-8", newline="") as opened:
        written = csv.writer(opened)
        written.writerow(["question", "answer"])
        for topic, texts in sorted(by_topic.items()):
            written.writerows([[text, topic] for text in chance.permutation(texts)[:EACH]])
    bot = chat(faq)
    asked = rows(shared / "banking77" / "test.csv")[::4]
    scores = bot.shelf.scores([row["text"] for row in asked])
    topics = [each.answer for each in bot.shelf.entries]
    right = np.array([topics.index(row["category"]) for row in asked])[:, None] == np.argsort(-scores, axis=1)[:, :5]
    answered = bot.shelf.trust.confidence(scores) >= bot.threshold
    assert right[:, 0].mean() > 0.70 and right.any(axis=1).mean() > 0.92
    assert answered.mean() > 0.4 and right[answered, 0].mean() > 0.88
    others = [row["text"] for row in rows(shared / "clinc150" / "test.csv") if row["intent"] == "oos"][:300]
    assert (bot.shelf.trust.confidence(bot.shelf.scores(others)) < bot.threshold).mean() > 0.9


def test_instructions_with_words_left_out_find_their_answers(shared):
    source = shared / "instruction_1100" / "instruction-data.json"
    bot, chance = chat(source), np.random.default_rng(0)
    chosen = [number for number, each in enumerate(bot.shelf.entries) if len(each.questions[0].split()) >= 6][::4]
    asked = []
    for number in chosen:
        words = bot.shelf.entries[number].questions[0].split()
        asked.append(" ".join(word for word in words if chance.random() > 0.3))
    order = np.argsort(-bot.shelf.scores(asked), axis=1)
    found = order[:, :5] == np.array(chosen)[:, None]
    assert found[:, 0].mean() > 0.7 and found.any(axis=1).mean() > 0.85
    assert json.loads(source.read_text())[0]["output"] == bot.shelf.entries[0].answer
