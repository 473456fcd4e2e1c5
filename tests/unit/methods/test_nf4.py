"""An adapter that is learnt on weights of four bits, and merged into the whole ones."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
pytest.importorskip("accelerate", reason="accelerate is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("peft", reason="peft is not installed")
bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")

from safetensors.numpy import load_file  # noqa: E402

from headstart.core.errors import UsageError  # noqa: E402
from headstart.methods.lora import Lora  # noqa: E402
from headstart.stages import adapters  # noqa: E402
from headstart.stages.fit import fit  # noqa: E402
from headstart.stages.networks import start  # noqa: E402
from headstart.testing.courses import toy_course, toy_network  # noqa: E402
from tests.unit.pipelines import toys  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def course(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    network = toy_network(tmp_path / "bert")
    return toy_course(network, tmp_path / "run", base="nf4", rank=4, rate=5e-3, epochs=4)


def test_the_base_stays_in_four_bits_and_the_adapter_learns(course):
    learner, _, adapted = Lora()._learner(course)
    narrow = [each for each in learner.network.modules() if isinstance(each, bnb.nn.Linear4bit)]
    assert len(narrow) == 12 and {each.weight.dtype for each in narrow} == {torch.uint8}
    moving = {name for name, each in adapted.named_parameters() if each.requires_grad and ".lora_" in name}
    assert len(moving) == 24
    rows = course.train[:8]
    given = {name: torch.from_numpy(each) for name, each in course.examples.batch(rows).items()}
    learner(given, torch.from_numpy(rows)).backward()
    assert all(each.grad is not None for name, each in adapted.named_parameters() if name in moving)
    # What never changes is no part of the state, so that nothing of it is copied or mixed.
    assert not any("absmax" in name or name.endswith("base_layer.weight") for name in learner.state_dict())
    learner.load_state_dict(learner.state_dict())


def test_the_whole_network_with_the_adapter_is_handed_back(course):
    tuned = Lora().tune(course)
    assert tuned.trained["adapter"]["base"] == "nf4" and tuned.trained["adapter"]["layers"] == 12
    before, after = load_file(course.network.weights), load_file(tuned.network.weights)
    assert before.keys() == after.keys() and {each.dtype for each in after.values()} == {np.dtype(np.float32)}
    for name in before:
        change = after[name].astype(np.float64) - before[name]
        assert not change.any() or np.linalg.matrix_rank(change, tol=1e-4) <= 4
    assert adapters.merged(course.network, tuned.adapter).backbone.checksum == tuned.network.backbone.checksum
    # The whole network answers nearly as the one in four bits did, which it was judged by.
    (name,) = course.lessons
    lesson = course.lessons[name]
    vectors = start(tuned.network).session.run(course.examples.batch(course.held))["embedding"]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = tuned.heads[name].scores({"embedding": vectors})
    assert lesson.task.correct(scores, lesson.y[course.held]).mean() == pytest.approx(tuned.score, abs=0.1)


def test_it_is_asked_for_by_a_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    writer = toys.llama(tmp_path / "llama")
    things = "order parcel refund invoice password umbrella king daughter letter tower".split()  # noqa: SIM905
    rows = [{"question": f"{each}?", "answer": f"the {each}"} for each in things for _ in range(2)]
    table = {name: [row[name] for row in rows] for name in ("question", "answer")}
    given = {"task": "generate", "backbone": f"local:{writer}", "method": "lora", "out": tmp_path / "model"}
    settings = {"epochs": 6, "rate": 2e-2, "batch": 4, "base": "nf4"}
    report = fit(table, settings=settings, **given).report
    assert report["metrics"]["perplexity"] < report["before"]["perplexity"]
    assert report["trained"]["adapter"]["base"] == "nf4"
    with pytest.raises(UsageError, match="base is 'int3'"):
        fit(table, settings={**settings, "base": "int3"}, **given)
