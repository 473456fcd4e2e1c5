"""Models on one network: one pass, whoever asks, and the same answers as alone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core.arrays import Session
from headstart.core.progress import Quiet
from headstart.heads.linear import Linear
from headstart.modalities.text import Text
from headstart.runtime import Runtime, Target
from headstart.server.models.fitted import Fitted
from headstart.server.queue.batching import Batcher
from headstart.server.queue.work import Budget, Part, Passes
from headstart.server.record.metrics import Metrics
from headstart.stages.networks import open_network
from headstart.testing.networks import WORDS, write_bert
from headstart.testing.toys import ToyTask

TEXTS = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
MODELS = 50


class Counting(Session):
    """Counts the passes of a network, and the rows in them."""

    def __init__(self, inner: Session) -> None:
        self.inner, self.passes = inner, []

    def run(self, arrays):
        self.passes.append(len(arrays["lengths"]))
        return self.inner.run(arrays)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return open_network(f"local:{write_bert(tmp_path_factory.mktemp('network') / 'bert')}", "", Quiet())


@pytest.fixture(scope="module")
def models(opened):
    """Return many models on one network that is counted, and the runtimes behind them."""
    session, task = Counting(opened.session), ToyTask()
    found = []
    for seed in range(MODELS):
        weights = np.random.default_rng(seed).standard_normal((opened.network.backbone.width, 3)) * 5
        head = Linear(["embedding"], weights, np.zeros(3))
        text = Text(["text"] if seed % 2 else ["subject", "body"]).bind(opened.network)
        found.append(Runtime(None, [text], {"text": session}, {task.target: Target(task, head)}))
    return [Fitted(each, f"model {at}", "1", Budget()) for at, each in enumerate(found)]


def session_of(models):
    return models[0].runtime.sessions["text"]


def together(works):
    return Passes.together([Part(work, 0, len(work.costs)) for work in works])


def same(given, expected):
    assert given["label"] == expected["label"]
    assert given["label_confidence"] == pytest.approx(expected["label_confidence"], abs=0.02)


def test_fifty_models_ask_the_network_once(models):
    session = session_of(models)
    rows = [{model.columns[-1]: "where is my parcel please"} for model in models]
    works = [model.prepare([row], {}) for model, row in zip(models, rows, strict=True)]
    session.passes.clear()
    answers = together(works)
    assert session.passes == [1]
    for model, row, answer in zip(models, rows, answers, strict=True):
        same(answer[0], model.runtime.predict_rows([row])[0])


def test_fifty_models_with_rows_of_their_own_ask_it_once_too(models):
    session = session_of(models)
    works = [
        model.prepare([{model.columns[-1]: " ".join(WORDS[at % 7 :][: 1 + at % 5])}], {})
        for at, model in enumerate(models)
    ]
    session.passes.clear()
    together(works)
    assert len(session.passes) == 1
    assert session.passes[0] <= 35


@settings(max_examples=25, deadline=None)
@given(jobs=st.lists(st.tuples(st.integers(0, 5), st.lists(TEXTS, min_size=1, max_size=5)), min_size=1, max_size=12))
def test_answers_under_concurrency_equal_those_alone(models, jobs):
    async def main():
        batcher = Batcher(Metrics())
        batcher.start()
        try:
            return await asyncio.gather(
                *(
                    batcher.submit(
                        models[number].prepare([{models[number].columns[-1]: text} for text in texts], {}),
                        models[number].name,
                    )
                    for number, texts in jobs
                )
            )
        finally:
            await batcher.stop()

    for (number, texts), answers in zip(jobs, asyncio.run(main()), strict=True):
        for text, answer in zip(texts, answers, strict=True):
            same(answer, models[number].runtime.predict_rows([{models[number].columns[-1]: text}])[0])


def test_vectors_and_labels_share_the_pass(models):
    session = session_of(models)
    works = [models[0].encoder.prepare(["my order", "refund"]), models[1].prepare([{"text": "my order"}], {})]
    session.passes.clear()
    vectors, _ = together(works)
    assert session.passes == [2]
    assert vectors[0].shape == (models[0].encoder.width,)
    assert vectors[0] == pytest.approx(
        session.inner.run(models[0].encoder.modality.encode({"text": ["my order"]}))["embedding"][0], abs=0.02
    )
