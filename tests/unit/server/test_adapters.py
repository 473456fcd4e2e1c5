"""Two models whose adapters stand on one backbone, served: one queue of passes, and to each its own answers."""

from __future__ import annotations

import concurrent.futures

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.progress import Quiet
from headstart.formats.openvino import OpenVINO
from headstart.heads.linear import Linear
from headstart.hubs.local import Local
from headstart.modalities.text import Text
from headstart.runtime import Runtime, Target
from headstart.server.queue.work import Part, Passes
from headstart.stages.kept import Kept, open_for
from headstart.testing.networks import WORDS, write_bert
from headstart.testing.toys import ToyTask
from tests.unit.server.conftest import running
from tests.unit.stages.test_kept import adapted, close

NAMES = ("one", "two")
ROWS = [" ".join(WORDS[at % 7 :][: 1 + at % 5]) for at in range(20)]


def runtime(bundle, kept=None):
    """Return a model that labels what a bundle's network makes of texts."""
    opened, task = open_for(bundle, Quiet(), kept)["text"], ToyTask()
    weights = np.random.default_rng(5).standard_normal((opened.network.backbone.width, 3)) * 5
    target = Target(task, Linear(["embedding"], weights, np.zeros(3)))
    return Runtime(None, [Text(["text"]).bind(opened.network)], {"text": opened.session}, {task.target: target})


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Return two models that share their backbone, and the same two, each with a merged network of its own."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    # In bf16, an adapter beside the weights and one that is merged into them are rounded at different places.
    monkeypatch.setattr(OpenVINO, "precisions", lambda self: ["f32"])
    base, kept = Local().fetch(Backbone.parse(f"local:{write_bert(tmp_path / 'bert')}"), Quiet()), Kept()
    bundles = {name: adapted(base, tmp_path, seed) for seed, name in enumerate(NAMES)}
    return {name: runtime(each, kept) for name, each in bundles.items()}, {n: runtime(e) for n, e in bundles.items()}


def test_each_model_answers_as_if_it_were_alone(served, measure):
    together, alone = served
    expected = {name: alone[name].predict_rows(ROWS) for name in NAMES}
    assert [each["label"] for each in expected["one"]] != [each["label"] for each in expected["two"]]
    with running(together) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [(name, row) for row in range(len(ROWS)) for name in NAMES]
        answers = pool.map(lambda each: client.post(f"/models/{each[0]}/predict", json=ROWS[each[1]]).json(), asked)
        for (name, row), answer in zip(asked, answers, strict=True):
            wanted = expected[name][row]
            assert answer["label"] == wanted["label"]
            assert answer["label_confidence"] == pytest.approx(wanted["label_confidence"], abs=0.02)
        models = [client.service.shelf.find(name) for name in NAMES]
    works = [model.prepare([{"text": text} for text in ROWS], {}) for model in models]
    assert works[0].group == works[1].group
    answered = Passes.together([Part(work, 0, len(ROWS)) for work in works])
    assert [[each["label"] for each in own] for own in answered] == [
        [each["label"] for each in expected[name]] for name in NAMES
    ]


def test_the_same_text_is_embedded_for_each_adapter(served):
    together, alone = served
    with running(together) as client:
        encoders = [client.service.shelf.find(name).encoder for name in NAMES]
        works = [each.prepare(["my order"]) for each in encoders]
        vectors = [np.stack(each) for each in Passes.together([Part(work, 0, 1) for work in works])]
    assert not close(vectors[0], vectors[1])
    for name, found in zip(NAMES, vectors, strict=True):
        modality, session = alone[name].inputs[0], alone[name].sessions["text"]
        wanted = session.run(modality.encode(modality.prepare({"text": ["my order"]})))["embedding"]
        assert close(found, wanted)
