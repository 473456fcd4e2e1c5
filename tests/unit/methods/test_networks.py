"""Methods that change a network's weights: what each is there for, on tiny networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
pytest.importorskip("accelerate", reason="accelerate is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from safetensors.numpy import load_file  # noqa: E402
from safetensors.torch import save_file as save_torch  # noqa: E402

from headstart.core.backbone import Backbone, Network  # noqa: E402
from headstart.core.course import Course, Examples, Lesson  # noqa: E402
from headstart.core.errors import ResourceError, UsageError  # noqa: E402
from headstart.core.files import sha256  # noqa: E402
from headstart.core.method import Budget  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.methods import _tuning  # noqa: E402
from headstart.methods._more_rows import joined  # noqa: E402
from headstart.methods.contrastive import Contrastive  # noqa: E402
from headstart.methods.distill import Distill  # noqa: E402
from headstart.methods.lora import Lora, _handed_back  # noqa: E402
from headstart.methods.own_network import OwnNetwork, forget  # noqa: E402
from headstart.modalities.text import Text  # noqa: E402
from headstart.stages import adapters  # noqa: E402
from headstart.stages.examples import examples_of  # noqa: E402
from headstart.stages.networks import start  # noqa: E402
from headstart.tasks.classify import Classify  # noqa: E402
from headstart.tasks.tag import Tag  # noqa: E402
from headstart.testing.courses import toy_course, toy_network, toy_texts  # noqa: E402
from headstart.testing.networks import write_bert  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return toy_network(tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture
def course(network, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))

    def made(**options):
        return toy_course(network, tmp_path / "run", **options)

    return made


def embedding(network, course, engine=""):
    return start(network, engine).session.run(course.examples.batch(course.held))["embedding"]


def right(tuned, course, vectors):
    lesson = course.lessons["t"]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return lesson.task.correct(tuned.heads["t"].scores({"embedding": unit}), lesson.y[course.held]).mean()


def drawn_adapter(given):
    """Return what is handed back of an adapter that changes much, and the embeddings while it is in the network."""
    learner, _, adapted = Lora()._learner(given)
    for name, each in adapted.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(each, std=0.3)
    live = _tuning.embeddings(given, learner, given.held)
    return _handed_back(given, learner, adapted, 0.0), live


def test_an_adapter_of_many_layers_whose_names_peft_shortens(tmp_path):
    folder = write_bert(tmp_path / "deep", layers=4)
    given = toy_course(Local().fetch(Backbone.parse(f"local:{folder}"), Quiet()), tmp_path / "run", rank=4)
    tuned, live = drawn_adapter(given)
    assert tuned.adapter is not None
    assert tuned.trained["adapter"]["layers"] == 24
    found = embedding(tuned.network, given)
    assert np.allclose(found / np.linalg.norm(found, axis=1, keepdims=True), live, atol=1e-4)
    assert not np.allclose(live, given.vectors[given.held], atol=1e-2)


def test_an_adapter_alone_gives_the_tuned_network(course):
    given = course(rank=4, rate=5e-3, epochs=4)
    tuned = Lora().tune(given)
    before, after = load_file(given.network.weights), load_file(tuned.network.weights)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert {name.rpartition(".")[2] for name in changed} == {"weight"}
    assert not any("embeddings" in name or "LayerNorm" in name for name in changed)
    for name in changed:
        assert np.linalg.matrix_rank(after[name].astype(np.float64) - before[name], tol=1e-4) <= 4
    assert tuned.adapter is not None
    again = adapters.merged(given.network, tuned.adapter)
    assert again.backbone.checksum == tuned.network.backbone.checksum
    assert tuned.trained["adapter"]["bytes"] < given.network.backbone.size / 2
    assert tuned.trained["adapter"]["layers"] == len(changed) == 12
    assert right(tuned, given, embedding(again, given)) == pytest.approx(tuned.score, abs=0.01)


def test_peft_itself_reads_the_adapter(course):
    peft = pytest.importorskip("peft")
    from transformers import AutoModel

    given = course(rank=4, rate=5e-3)
    tuned = Lora().tune(given)
    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(given.network.folder), tuned.adapter)
    merged, expected = model.merge_and_unload().state_dict(), load_file(tuned.network.weights)
    assert all(np.allclose(merged[name].numpy(), each, atol=1e-5) for name, each in expected.items())


class Told(Examples):
    """Made-up texts, of which every token is to be learnt."""

    sizes = np.full(40, 6)

    def batch(self, rows, epoch=None):
        ids = np.stack([(row + np.arange(6)) % 20 for row in rows.tolist()]).astype(np.int32)
        ones = np.ones(ids.size, np.float32)
        return {"ids": ids.ravel(), "lengths": np.full(len(rows), 6, np.int32), "weights": ones}


def test_a_network_that_writes_is_adapted_whose_layers_have_inputs_first(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=32, pad_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt")
    (toy_network(tmp_path / "bert").folder / "tokenizer.json").rename(tmp_path / "gpt/tokenizer.json")
    network = replace(Local().fetch(Backbone.parse(f"local:{tmp_path / 'gpt'}"), Quiet()), use="generate")
    rows, told = np.arange(40), Told()

    def judge(session):
        with torch.no_grad():
            given = {name: torch.from_numpy(each) for name, each in told.batch(rows[:8]).items()}
            return -float(session.trainable().loss(given))

    given = Course(
        network=network,
        open=lambda each: Torch().open(each, "f32", 1),
        examples=told,
        train=rows[8:],
        held=rows[:8],
        lessons={},
        folder=tmp_path / "run",
        seed=0,
        budget=Budget(),
        threads=1,
        progress=Quiet(),
        judge=judge,
        options={"epochs": 8, "batch": 8, "rate": 2e-2},
    )
    tuned = Lora().tune(given)
    assert tuned.score > judge(given.open(network)) + 0.05
    assert tuned.adapter is not None
    assert judge(given.open(adapters.merged(network, tuned.adapter))) == pytest.approx(tuned.score, abs=1e-4)


class Cut(Exception):
    """Stands for whatever ends a process."""


class CutShort(Examples):
    """Examples that end the training at the second batch of a later epoch."""

    def __init__(self, inner, epoch):
        self.inner, self.epoch, self.read = inner, epoch, 0

    @property
    def sizes(self):
        return self.inner.sizes

    def batch(self, rows, epoch=None):
        self.read += epoch == self.epoch
        if self.read > 1:
            raise Cut
        return self.inner.batch(rows, epoch)


@pytest.mark.parametrize("method", [Lora, Contrastive, OwnNetwork])
def test_cut_off_it_goes_on_bit_for_bit(course, tmp_path, method):
    given = replace(course(epochs=3), folder=tmp_path / method.__name__)
    whole = method().tune(replace(given, folder=tmp_path / "whole"))
    with pytest.raises(Cut):
        method().tune(replace(given, examples=CutShort(given.examples, 1)))
    again = method().tune(replace(given, resume=True))
    assert again.network.backbone.checksum == whole.network.backbone.checksum
    assert again.trained["steps"] == whole.trained["steps"]


class Pictures(Examples):
    """Noise, with bright pictures and dark ones."""

    sizes = np.ones(48, int)

    def batch(self, rows, epoch=None):
        drawn = [np.random.default_rng(row).standard_normal((3, 32, 32)) + (row % 2) for row in rows.tolist()]
        return {"pixels": np.stack(drawn).astype(np.float32)}


def pictures_course(network, folder, **options):
    task = Classify.of("t", ["bright", "dark"] * 24)
    examples, rows = Pictures(), np.arange(48)
    vectors = start(network, "torch").session.run(examples.batch(rows))["embedding"]
    return Course(
        network=network,
        open=lambda each: Torch().open(each, "f32", 1),
        examples=examples,
        train=rows[12:],
        held=rows[:12],
        lessons={"t": Lesson(task, task.encode(["dark", "bright"] * 24), np.ones(48, bool))},
        folder=folder,
        seed=0,
        budget=Budget(),
        threads=1,
        progress=Quiet(),
        options={"epochs": 2, "batch": 12, **options},
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


@pytest.fixture
def convolutional(tmp_path):
    """A MobileNet with random weights in a safetensors file: some of its convolutions are grouped."""
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    weights = tmp_path / "mobile" / "model.safetensors"
    weights.parent.mkdir()
    module = torchvision.models.mobilenet_v2(weights=None, num_classes=3)
    save_torch(module.state_dict(), weights)
    backbone = Backbone("torchvision", "mobilenet_v2", modality="image", checksum=sha256(weights), uses=("embed",))
    return Network(
        weights.parent,
        "mobilenet_v2",
        {},
        weights,
        backbone,
        {"size": [32, 32], "scale": 1 / 255, "layout": "nchw"},
        library="torchvision",
    )


def test_convolutions_are_adapted_where_they_are_not_grouped(convolutional, tmp_path):
    given = pictures_course(convolutional, tmp_path / "run", rank=2)
    tuned, live = drawn_adapter(given)
    before, after = load_file(convolutional.weights), load_file(tuned.network.weights)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {before[name].ndim for name in changed} == {4}
    # The inputs of a grouped convolution's filter are fewer than its own number; the last layer has no part in it.
    assert not any(before[name].shape[1] == 1 for name in changed)
    assert "classifier.1.weight" not in changed
    assert tuned.adapter is not None
    found = embedding(tuned.network, given, "torch")
    assert np.allclose(found / np.linalg.norm(found, axis=1, keepdims=True), live, atol=1e-4)
    assert not np.allclose(live, given.vectors[given.held], atol=1e-2)


def test_a_network_that_begins_with_random_weights_learns_its_batch_norms(convolutional, tmp_path):
    given = pictures_course(convolutional, tmp_path / "run", architecture="same")
    tuned = OwnNetwork().tune(given)
    after = load_file(tuned.network.weights)
    assert any(np.abs(each).max() > 1e-3 for name, each in after.items() if name.endswith("running_mean"))
    assert right(tuned, given, embedding(tuned.network, given, "torch")) == pytest.approx(tuned.score, abs=0.01)


@pytest.mark.parametrize("options", [{"rank": 0}, {"rank": "many"}, {"alpha": 1.5}, {"epochs": 2, "ranks": 4}])
def test_settings_of_an_adapter_that_make_no_sense(course, options):
    with pytest.raises(UsageError):
        Lora().tune(course(**options))


def test_contrastive_draws_like_rows_together(course):
    given = course(epochs=8, rate=3e-3, batch=32)
    tuned = Contrastive().tune(given)
    y = given.lessons["t"].y[given.held]

    def apart(vectors):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        likeness = unit @ unit.T
        return likeness[y[:, None] == y].mean() - likeness[y[:, None] != y].mean()

    assert apart(embedding(tuned.network, given)) > apart(embedding(given.network, given)) + 0.05
    assert [each.name for each in tuned.race][-1] == "linear layers fitted anew"


def test_contrastive_is_for_few_rows_of_each_class(course):
    given = course()
    assert "about 64" in Contrastive().worthwhile(given)
    assert Contrastive().worthwhile(replace(given, train=given.train[:60])) == ""
    assert Contrastive().worthwhile(replace(given, train=given.train[:60], lessons=course(task=Tag).lessons)) == ""


def test_a_smaller_network_learns_from_rows_without_labels_too(course, network):
    given = course(layers=1, epochs=2)
    texts = np.array(toy_texts(120, seed=1), dtype=object)
    more = examples_of(Text(["text"]), network, {"text": texts}, 0)
    tuned = Distill().tune(replace(given, unlabelled=more))
    assert tuned.trained["layers"] == 1
    assert tuned.trained["unlabelled"] == 120
    assert tuned.network.config["num_hidden_layers"] == 1
    assert not any("layer.1" in name for name in load_file(tuned.network.weights))
    assert tuned.network.backbone.parameters < given.network.backbone.parameters
    opened = start(tuned.network)
    assert opened.format == "openvino"
    assert right(tuned, given, embedding(tuned.network, given)) == pytest.approx(tuned.score, abs=0.01)
    assert np.allclose(embedding(tuned.network, given), embedding(tuned.network, given, "torch"), atol=1e-3)


def test_without_layers_token_embeddings_are_left(course):
    given = course(layers=0, teacher="none")
    tuned = Distill().tune(given)
    assert not any("encoder" in name for name in load_file(tuned.network.weights))
    assert np.allclose(embedding(tuned.network, given), embedding(tuned.network, given, "torch"), atol=1e-3)


@pytest.mark.parametrize("options", [{"layers": 2}, {"layers": "most"}, {"teacher": "me"}])
def test_settings_of_distillation_that_make_no_sense(course, options):
    with pytest.raises(UsageError):
        Distill().tune(course(**options))


def test_rows_with_and_without_labels_are_read_in_order(course, network):
    given = course()
    texts = np.array(toy_texts(30, seed=1), dtype=object)
    more = examples_of(Text(["text"]), network, {"text": texts}, 0)
    wide = joined(replace(given, unlabelled=more))
    count = len(given.examples.sizes)
    rows = np.array([count + 3, 5, count + 1, 0])
    batch = wide.examples.batch(rows)
    each = [wide.examples.batch(rows[place : place + 1]) for place in range(4)]
    assert np.array_equal(batch["ids"], np.concatenate([one["ids"] for one in each]))
    assert list(batch["lengths"]) == [one["lengths"][0] for one in each] == list(wide.examples.sizes[rows])
    assert not wide.lessons["t"].known[count:].any()


@pytest.mark.parametrize("architecture", ["same", "cnn", "lstm"])
def test_a_network_of_ones_own_opens_again(course, architecture):
    given = course(architecture=architecture, epochs=6)
    tuned = OwnNetwork().tune(given)
    assert tuned.network.backbone.hub == "own"
    assert tuned.network.backbone.licence == ""
    assert tuned.trained["parameters"] == sum(each.size for each in load_file(tuned.network.weights).values())
    assert right(tuned, given, embedding(tuned.network, given)) == pytest.approx(tuned.score, abs=0.01)
    # A text's vector does not depend on the texts beside it.
    together = embedding(tuned.network, given)
    session = start(tuned.network).session
    alone = session.run(given.examples.batch(given.held[:1]))["embedding"]
    assert np.allclose(alone[0], together[0], atol=1e-5)
    assert np.allclose(together, embedding(tuned.network, given, "torch"), atol=1e-4)
    assert start(tuned.network).format == ("torch" if architecture == "lstm" else "openvino")


def test_the_same_architecture_begins_with_nothing_that_was_learnt(course):
    given = course()
    before = {
        name: each.clone()
        for name, each in given.open(given.network).trainable().module.state_dict().items()
        if each.is_floating_point()
    }
    built = _tuning.opened(given).trainable()
    forget(built.module)
    for name, each in built.module.state_dict().items():
        if name in before and before[name].std() > 0:
            assert not torch.equal(each, before[name]), name


def test_an_architecture_that_there_is_not(course):
    with pytest.raises(UsageError, match="cnn, lstm, same"):
        OwnNetwork().tune(course(architecture="resnet"))


def test_a_budget_without_room_is_told(course):
    for method in (Lora(), Contrastive(), OwnNetwork()):
        with pytest.raises(ResourceError, match="of the budget are left"):
            method.tune(replace(course(), budget=Budget(1e-3)))
