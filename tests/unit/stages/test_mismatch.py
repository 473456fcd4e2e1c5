"""Whether a network is at home with rows: told from how it takes texts apart and what its features know."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.core.method import Budget, Job
from headstart.core.progress import Quiet
from headstart.modalities.text import Text
from headstart.stages import mismatch
from headstart.stages.networks import DEFAULT, fetch
from headstart.tasks.classify import Classify
from headstart.tasks.regress import Regress

ENGLISH = {
    "tokens_per_word": 1.1,
    "broken": 0.05,
    "nearness": 0.3,
    "home_tokens_per_word": 1.0,
    "home_broken": 0.03,
    "home_nearness": 0.3,
}
GOOD = {
    "rows": 500,
    "majority": 0.3,
    "neighbours": 0.8,
    "neighbours_over_scratch_ci": [0.01, 0.1],
    "probe": 0.9,
    "scratch": 0.75,
    "number": 0.15,
    "number_ci": [0.1, 0.2],
    "text": ENGLISH,
}


@pytest.fixture(scope="module")
def text() -> Text:
    return Text(["text"]).bind(fetch(DEFAULT["text"], "", Quiet()))


def test_english_of_any_kind_is_taken_apart_as_at_home(text):
    home = mismatch.vocabulary(text, mismatch.home())
    assert 1.0 <= home["tokens_per_word"] < 1.1
    assert 0 < home["broken"] < 0.05
    tickets = ["how do i add my birthday to the profile, and do i get a coupon then?", "Double charge, please refund."]
    assert mismatch.vocabulary(text, tickets)["tokens_per_word"] < 1.2


@pytest.mark.parametrize(
    ("texts", "words", "broken"),
    [
        (["Gibt es eine Einstellung, um den Newsletter nur einmal im Monat zu bekommen?"], 1.4, 0.0),
        (["Здравствуйте, мой заказ до сих пор не пришёл, что мне делать?"], 2.0, 0.3),
        (["私の注文はまだ届いていません。どうすればいいですか。"], 0.9, 0.3),
        (["qxzv wrtpl mnbvc lkjhg zxcvb"], 2.0, 0.0),
    ],
)
def test_foreign_words_fall_into_pieces(text, texts, words, broken):
    found = mismatch.vocabulary(text, texts)
    assert found["tokens_per_word"] >= words
    assert found["broken"] >= broken


def test_texts_without_words_break_nothing(text):
    assert mismatch.vocabulary(text, ["", " "]) == {"tokens_per_word": 0.0, "broken": 0.0}


@pytest.mark.parametrize(
    ("changes", "advice", "word"),
    [
        ({}, "proceed", "at home"),
        ({"number": -0.05, "number_ci": [-0.08, -0.02]}, "scratch", "do worse"),
        ({"number": 0.01, "number_ci": [-0.01, 0.03]}, "scratch", "no better"),
        ({"neighbours_over_scratch_ci": [-0.1, -0.02]}, "another backbone", "something else"),
        ({"text": {**ENGLISH, "tokens_per_word": 1.9}}, "another backbone", "does not know such texts"),
        ({"text": {**ENGLISH, "broken": 0.4}}, "another backbone", "does not know such texts"),
        ({"text": {**ENGLISH, "nearness": 0.15}}, "another backbone", "does not know such texts"),
        ({"text": {}}, "proceed", "at home"),
    ],
)
def test_each_finding_leads_to_its_advice(changes, advice, word):
    found = mismatch.advise("department", {**GOOD, **changes}, percent=True)
    assert found["advice"] == advice
    assert word in found["sentence"]
    assert found["sentence"].startswith("department: ")
    assert "80.0 %" in found["basis"]


def test_the_lead_is_told_in_points_or_in_r2():
    assert "+15.0 [+10.0, +20.0]" in mismatch.advise("t", GOOD, percent=True)["sentence"]
    assert "+0.150 [+0.100, +0.200]" in mismatch.advise("t", GOOD, percent=False)["sentence"]


def _job(task, y, vectors, groups=None) -> Job:
    points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = np.arange(len(y)) if groups is None else groups
    return Job(task, y, {"embedding": points.astype(np.float32)}, groups, 0, Budget(), 1, Quiet())


def test_neighbours_answer_what_lies_together():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    job = _job(Classify.of("t", [str(each) for each in labels]), labels, np.eye(3)[labels] + 0.1 * rng.random((200, 3)))
    scores = mismatch.neighbours(job, job.features["embedding"])
    assert job.task.correct(scores, job.y).mean() > 0.95
    values = rng.standard_normal(200)
    task = Regress.of("t", [str(value) for value in values])
    angle = np.stack([np.cos(values / 3), np.sin(values / 3)], axis=1)
    numbers = _job(task, task.encode([str(v) for v in values]), angle)
    assert task.correct(mismatch.neighbours(numbers, numbers.features["embedding"]), numbers.y).mean() > 0.9


def test_no_row_is_answered_by_its_own_twin():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 60), 6)
    vectors = np.repeat(rng.standard_normal((60, 16)), 6, axis=0) + 1e-4 * rng.standard_normal((360, 16))
    job = _job(Classify.of("t", [str(each) for each in labels]), labels, vectors, np.repeat(np.arange(60), 6))
    assert job.task.correct(mismatch.neighbours(job, job.features["embedding"]), job.y).mean() < 0.75
