"""The training loop: what is frozen stays, what is cut off goes on bit for bit, and memory that runs out is shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
pytest.importorskip("accelerate", reason="accelerate is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from headstart.core.backbone import Backbone  # noqa: E402
from headstart.core.course import Course, Examples, Lesson  # noqa: E402
from headstart.core.errors import ResourceError  # noqa: E402
from headstart.core.method import Budget  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.methods._tuning import linear_start, opened, supervised  # noqa: E402
from headstart.methods.finetune import Finetune  # noqa: E402
from headstart.modalities.text import Text  # noqa: E402
from headstart.stages.examples import examples_of  # noqa: E402
from headstart.stages.networks import start  # noqa: E402
from headstart.tasks.classify import Classify  # noqa: E402
from headstart.testing.networks import WORDS, write_bert  # noqa: E402
from headstart.training import loop  # noqa: E402
from headstart.training.blocks import blocks_of, groups, to_training  # noqa: E402
from headstart.training.learner import Learner  # noqa: E402
from headstart.training.loop import Loop  # noqa: E402
from headstart.training.plan import Plan  # noqa: E402
from headstart.training.tuned import mixed  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ROWS = 96


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    """Bits are promised for a CPU; a GPU adds up in another order each time. And bf16 hides what is compared here."""
    monkeypatch.setattr(loop, "chosen_precision", lambda wanted: "no")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = write_bert(tmp_path_factory.mktemp("bert") / "bert")
    return Local().fetch(Backbone.parse(f"local:{folder}"), Quiet())


@pytest.fixture
def course(network, tmp_path):
    """Texts whose label is whether they name an order."""
    rng = np.random.default_rng(0)
    texts = np.array([" ".join(rng.choice(WORDS, rng.integers(2, 12))) for _ in range(ROWS)], dtype=object)
    labels = ["order" if "order" in text or "parcel" in text else "other" for text in texts]
    task = Classify.of("t", labels)
    modality = Text(["text"])
    arrays = {"text": texts}
    vectors = start(network).session.run(modality.bind(network).encode(arrays))["embedding"]
    held = np.arange(ROWS) % 4 == 0
    return Course(
        network=network,
        open=lambda each: Torch().open(each, "f32", 1),
        examples=examples_of(modality, network, arrays, 0),
        train=np.flatnonzero(~held),
        held=np.flatnonzero(held),
        lessons={"t": Lesson(task, task.encode(labels), np.ones(ROWS, bool))},
        folder=tmp_path / "run",
        seed=0,
        budget=Budget(),
        threads=1,
        progress=Quiet(),
        options={"epochs": 2, "batch": 16, "rate": 1e-3},
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def learner_of(course):
    built = opened(course).trainable()
    return supervised(course, built, linear_start(course))


def loop_of(course, learner, plan, **more):
    made = {"seed": 0, "budget": Budget(), "progress": Quiet(), "every": 0.0, **more}
    return Loop(learner, course.examples, course.train, plan, lambda: 0.0, course.folder, **made)


def weights(learner):
    return {name: each.clone() for name, each in learner.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


PLAN = Plan(epochs=2, batch=16, rate=1e-3, patience=9)


def test_tuning_learns_and_answers_alike_without_torch(course):
    tuned = Finetune().tune(course)
    opened = start(tuned.network)
    assert opened.format == "openvino"
    batch = course.examples.batch(course.held)
    scores = tuned.heads["t"].scores({"embedding": opened.session.run(batch)["embedding"]})
    lesson = course.lessons["t"]
    assert lesson.task.correct(scores, lesson.y[course.held]).mean() == pytest.approx(tuned.score, abs=0.01)
    losses = [each["loss"] for each in tuned.trained["epochs"]]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "plan", [PLAN, replace(PLAN, average=0.9), replace(PLAN, frozen=1), replace(PLAN, gradual=True)]
)
def test_cut_off_anywhere_it_goes_on_bit_for_bit(course, plan):
    whole = learner_of(course)
    loop_of(course, whole, plan).run()

    class Cut(Exception):
        pass

    for stop in (1, 6, 8):
        cut = learner_of(course)
        loop = loop_of(course, cut, plan)
        step = loop._step
        count = iter(range(100))

        def counted(*given, step=step, count=count, stop=stop):
            if next(count) == stop:
                raise Cut
            return step(*given)

        loop._step = counted
        with pytest.raises(Cut):
            loop.run()
        again = learner_of(course)
        loop_of(course, again, plan).run(resume=True)
        assert same(weights(again), weights(whole))


def test_the_same_seed_gives_the_same_bits(course):
    first, second = learner_of(course), learner_of(course)
    for each in (first, second):
        loop_of(course, each, PLAN).run()
    assert same(weights(first), weights(second))
    other = learner_of(course)
    loop_of(course, other, PLAN, seed=1).run()
    assert not same(weights(first), weights(other))


def test_frozen_blocks_stay_and_their_kept_output_changes_nothing(course):
    plan = replace(PLAN, frozen=1)
    before = weights(learner_of(course))
    kept, fresh = learner_of(course), learner_of(course)
    loop = loop_of(course, kept, plan)
    loop.run()
    assert loop.replay is not None
    other = loop_of(course, fresh, plan)
    other._prepare()
    other.replay.remove()
    other.replay, other._prepare = None, lambda: None
    other.run()
    after = weights(kept)
    still = [name for name in after if "embeddings" in name or "layer.0." in name]
    assert still
    assert all(torch.equal(after[name], before[name]) for name in still)
    assert not torch.equal(after["head.0.weight"], before["head.0.weight"])
    for name, each in weights(fresh).items():
        torch.testing.assert_close(after[name], each, atol=1e-5, rtol=1e-4)


def test_memory_that_runs_out_halves_the_batch(course):
    whole, cut = learner_of(course), learner_of(course)
    # Dropout draws by the shape of a batch, so it is left out of the comparison.
    for each in (whole, cut):
        for layer in each.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
            if hasattr(layer, "dropout_prob"):
                layer.dropout_prob = 0.0
    loop_of(course, whole, PLAN).run()
    loop = loop_of(course, cut, PLAN)
    forward = cut.forward

    def small(given, rows):
        if len(rows) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(given, rows)

    cut.forward = small
    state = loop.run()
    assert state.accumulate == 4
    for name, each in weights(whole).items():
        torch.testing.assert_close(weights(cut)[name], each, atol=2e-3, rtol=2e-2)


def test_memory_that_does_not_do_for_one_row_is_told(course):
    cut = learner_of(course)
    cut.forward = lambda given, rows: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(ResourceError, match="not enough memory"):
        loop_of(course, cut, PLAN).run()


class Noise(Examples):
    sizes = np.ones(32, int)

    def batch(self, rows, epoch=None):
        rng = np.random.default_rng(int(rows[0]))
        return {"pixels": rng.normal(3, 2, (len(rows), 3, 32, 32)).astype(np.float32)}


class Convolutions:
    def __init__(self):
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(),
            torch.nn.Conv2d(4, 4, 3),
            torch.nn.Dropout(),
        )

    def loss(self, given):
        return (self.module(given["pixels"]) - 1).square().mean()


def test_convolutions_cut_off_go_on_bit_for_bit(tmp_path):
    """Their weights and the optimizer's averages of them lie in memory in an order of their own, which is kept."""

    def loop_to(folder):
        learner = Learner(Convolutions())
        return Loop(
            learner, Noise(), np.arange(32), replace(PLAN, batch=8, patience=9), lambda: 0.0, folder,
            seed=0, budget=Budget(), progress=Quiet(), every=0.0,
        )  # fmt: skip

    whole = loop_to(tmp_path / "whole")
    whole.run()
    cut = loop_to(tmp_path / "cut")
    step, count = cut._step, 0

    def counted(*given):
        nonlocal count
        count += 1
        if count == 7:
            raise KeyboardInterrupt
        return step(*given)

    cut._step = counted
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    again = loop_to(tmp_path / "cut")
    again.run(resume=True)
    assert again.state.step == whole.state.step
    assert same(weights(whole.learner), weights(again.learner))


def test_batch_norms_stay_in_inference_mode(tmp_path):
    built = Convolutions()
    before = {name: each.clone() for name, each in built.module.state_dict().items()}
    learner = Learner(built)
    loop = Loop(
        learner, Noise(), np.arange(32), replace(PLAN, batch=8), lambda: 0.0, tmp_path,
        seed=0, budget=Budget(), progress=Quiet(),
    )  # fmt: skip
    loop.run()
    after = built.module.state_dict()
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(after[name], before[name])
    assert not torch.equal(after["1.weight"], before["1.weight"])
    to_training(built.module)
    assert [each.training for each in built.module] == [True, False, True, True, True]


@pytest.mark.parametrize(
    ("name", "blocks"), [("resnet18", 7), ("mobilenet_v2", 19), ("vgg11", 8), ("vit_b_16", 12), ("densenet121", 10)]
)
def test_blocks_of_image_networks(name, blocks):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    with torch.device("meta"):
        module = torchvision.models.get_model(name, weights=None)
    found = blocks_of(module)
    inside = [each for block in found.blocks for each in block.parameters()]
    everything = [*found.stem, *inside, *found.top]
    assert len({id(each) for each in everything}) == len(everything) == len(list(module.parameters()))
    assert len(found.blocks) == blocks


def test_lower_blocks_learn_more_slowly(course):
    learner = learner_of(course)
    made = groups(learner.network, learner.head, frozen=0, rate=1.0, head_rate=5.0, decay=0.5, weight_decay=0.1)
    rates = {}
    for group in made:
        for each in group["params"]:
            rates[id(each)] = group["peak"]
            assert group["weight_decay"] == (0.1 if each.ndim > 1 else 0.0)
    named = {name: rates[id(each)] for name, each in learner.named_parameters()}
    assert named["head.0.weight"] == 5.0
    assert named["network.encoder.layer.1.output.dense.weight"] == 1.0
    assert named["network.encoder.layer.0.output.dense.weight"] == 0.5
    assert named["network.embeddings.word_embeddings.weight"] == 0.25


def test_weights_between_two_networks():
    first, second = {"w": torch.zeros(2), "n": torch.tensor(1)}, {"w": torch.ones(2), "n": torch.tensor(5)}
    assert mixed(first, second, 0.25)["w"].tolist() == [0.25, 0.25]
    assert mixed(first, second, 0.25)["n"].item() == 5


def test_rare_classes_count_for_more(course):
    learner = learner_of(course)
    rows = torch.arange(ROWS)
    given = {name: torch.from_numpy(each) for name, each in course.examples.batch(np.arange(ROWS)).items()}
    learner.eval()
    lesson = course.lessons["t"]
    counts = np.bincount(lesson.y)
    with torch.inference_mode():
        alike = float(learner(given, rows))
        learner.balance = 1.0
        weights = learner._weights(lesson, "cpu").numpy()
        assert np.allclose(weights * counts, ROWS / 2)  # each class as much as the other
        own = torch.nn.functional.cross_entropy(
            learner.head[0]((learner.embedding(given) - learner.mean) / learner.scale),
            torch.from_numpy(lesson.y), reduction="none",
        )  # fmt: skip
        assert alike == pytest.approx(float(own.mean()), rel=1e-5)
        assert float(learner(given, rows)) == pytest.approx(float((own * weights[lesson.y]).mean()), rel=1e-5)
