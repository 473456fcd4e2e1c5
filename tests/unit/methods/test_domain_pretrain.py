"""Reading the user's texts without labels before the targets are learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart import tasks
from headstart.core.backbone import Backbone
from headstart.core.course import Course, Examples, Lesson
from headstart.core.method import Budget
from headstart.core.progress import Quiet
from headstart.hubs.local import Local
from headstart.methods.domain_pretrain import DomainPretrain
from tests.unit.pipelines import toys

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

WORDS = "order king letters paris umbrella daughters visited human arrived extend".split()  # noqa: SIM905


class Texts(Examples):
    """Sentences in which a word is always followed by the same other one, so that a hidden one can be told."""

    def __init__(self, network, count, seed=0):
        from headstart import modalities

        chance = np.random.default_rng(seed)
        self.y = chance.integers(0, 2, count)
        follows = dict(zip(WORDS, WORDS[1:] + WORDS[:1], strict=True))
        self.texts = np.empty(count, dtype=object)
        for row in range(count):
            some = [WORDS[each] for each in chance.integers(0, 5, 3) + 5 * self.y[row]]
            self.texts[row] = " ".join(f"{each} {follows[each]}" for each in some)
        self.modality = modalities.registry.get("text").of({"columns": ["t"]}).bind(network)

    @property
    def sizes(self):
        return self.modality.encode({"text": self.texts})["lengths"].astype(np.int64)

    def batch(self, rows, epoch=None):
        return self.modality.encode({"text": self.texts[rows]})


def course(network, folder, **changes):
    from headstart.formats.torch import Torch

    examples = Texts(network, 240) if network.backbone.modality == "text" else Pictures(240)
    task = tasks.registry.get("classify").of("t", [str(each) for each in examples.y])
    lesson = Lesson(task, task.encode([str(each) for each in examples.y]), np.ones(240, bool))
    given = Course(
        network=network,
        open=lambda each: Torch().open(each, "f32", 1),
        examples=examples,
        train=np.arange(200),
        held=np.arange(200, 240),
        lessons={"t": lesson},
        folder=folder,
        seed=0,
        budget=Budget(),
        threads=1,
        progress=Quiet(),
        options={"epochs": 4, "batch": 16, "rate": 3e-3, "precision": "f32"},
    )
    return replace(given, **changes)


@pytest.mark.parametrize("saved", ["BertModel", "BertForMaskedLM"])
def test_hidden_words_are_told_better_and_the_encoder_embeds_on(tmp_path, saved):
    from headstart.formats.openvino import OpenVINO
    from headstart.formats.torch import Torch

    network, _ = toys.opened(toys.bert(tmp_path / "model", saved), "embed")
    assert ("fill_mask" in network.backbone.uses) == (saved == "BertForMaskedLM")
    more = Texts(network, 600, seed=1)
    given = course(network, tmp_path / "work", unlabelled=more)
    method = DomainPretrain()
    assert method.supports(given) == ""
    tuned = method.tune(given)
    before, after = (float(tuned.notes[0].split(mark)[1].split()[0]) for mark in ("it ", "before, "))
    assert after < 0.8 * before
    assert tuned.trained["texts"] == 570 and set(tuned.heads) == {"t"} and 0.5 < tuned.score <= 1.1
    some = given.examples.batch(np.arange(5))
    vectors = Torch().open(tuned.network, "f32", 1).run(some)["embedding"]
    assert OpenVINO().open(tuned.network, "f32", 1).run(some)["embedding"] == pytest.approx(vectors, abs=2e-3)
    assert not np.allclose(Torch().open(network, "f32", 1).run(some)["embedding"], vectors, atol=1e-2)
    assert {each.name for each in (tmp_path / "work").iterdir() if each.is_dir()} <= {"network", "checkpoint"}


class Pictures(Examples):
    """Discs and squares of any colour, at any place."""

    def __init__(self, count, seed=0):
        chance = np.random.default_rng(seed)
        self.y = chance.integers(0, 2, count)
        place = np.mgrid[:32, :32]
        self.pixels = (0.2 * chance.standard_normal((count, 3, 32, 32))).astype(np.float32)
        for row in range(count):
            far = np.abs(place - chance.integers(10, 22, (2, 1, 1)))
            inside = np.hypot(*far) < 8 if self.y[row] else far.max(axis=0) < 4
            self.pixels[row, :, inside] += chance.uniform(-2, 2, 3)

    @property
    def sizes(self):
        return np.ones(len(self.y), np.int64)

    def batch(self, rows, epoch=None):
        return {"pixels": self.pixels[rows]}


def test_pictures_are_learnt_by_two_views_of_each(tmp_path):
    import transformers

    from headstart.formats.torch import Torch

    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1])
    transformers.ResNetModel(config).save_pretrained(tmp_path / "resnet")
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(tmp_path / "resnet")
    network = Local().fetch(Backbone.parse(f"local:{tmp_path / 'resnet'}"), Quiet())
    more = Pictures(300, seed=1)
    given = course(network, tmp_path / "work", unlabelled=more, options={"epochs": 3, "batch": 32, "rate": 3e-3})
    vectors = Torch().open(network, "f32", 1).run(given.examples.batch(np.arange(240)))["embedding"]
    given = replace(given, vectors=vectors)
    method = DomainPretrain()
    assert method.supports(given) == "" and method.worthwhile(given) == ""
    assert "no pictures without labels" in method.worthwhile(replace(given, unlabelled=None))
    assert "200 pictures" in method.supports(replace(given, unlabelled=Pictures(100)))
    assert method.estimate(given).seconds > 0
    tuned = method.tune(given)
    before, after = (float(tuned.notes[0].split(mark)[1].split()[0]) for mark in ("it ", "before, "))
    assert after < before and "two views" in tuned.notes[0]
    assert tuned.trained["pictures"] == 280 and set(tuned.heads) == {"t"}
    some = given.examples.batch(np.arange(4))
    found = Torch().open(tuned.network, "f32", 1).run(some)["embedding"]
    assert found.shape == (4, 24) and not np.allclose(found, vectors[:4], atol=1e-2)


def test_it_says_why_it_cannot(tmp_path):
    network, _ = toys.opened(toys.bert(tmp_path / "model", "BertModel"), "embed")
    given, method = course(network, tmp_path / "work"), DomainPretrain()
    assert method.supports(given) == ""
    assert "200 texts" in method.supports(replace(given, train=np.arange(50)))
    assert "objective" in method.supports(replace(given, network=replace(network, use="generate")))
    other, _ = toys.opened(toys.gpt2(tmp_path / "gpt2", "GPT2Model"), "embed")
    assert "no mask token" in method.supports(replace(given, network=other))
    assert method.estimate(given).seconds > 0
