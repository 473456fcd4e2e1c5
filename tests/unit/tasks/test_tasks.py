import numpy as np
import pytest

from headstart import tasks
from headstart.core.errors import DataError
from headstart.core.metrics import softmax
from headstart.tasks.classify import Classify
from headstart.tasks.regress import Regress
from headstart.tasks.tag import Tag, tags


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["a", "b", "a"], "classify"),
        (["1", "2", "1", "3"] * 20, "classify"),
        ([f"{each / 7}" for each in range(90)], "regress"),
        (list(range(500)), "regress"),
        (["x|y", "y", "x"] * 9, "tag"),
        ([["x", "y"], ["y"]], "tag"),
        (["Sorry; but no.", "Well; yes then", "other"], "classify"),
    ],
)
def test_the_task_is_inferred_from_the_cells(cells, expected):
    claims = {name: kind.claims(cells) for name, kind in tasks.registry.all().items()}
    assert max(claims, key=lambda name: claims[name]) == expected


def test_a_temperature_repairs_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 4))
    y = np.array([rng.choice(4, p=chances) for chances in softmax(logits)])
    task = Classify.of("t", [str(each) for each in y]).calibrate(logits * 10, y, 0.95)
    assert task.temperature == pytest.approx(10, rel=0.15)
    assert task.metrics(logits * 10, y)["ece"] < 0.03


def test_labels_that_training_never_saw_count_as_wrong_and_as_out_of_scope():
    task = Classify.of("t", ["a", "b"] * 20)
    scores = np.array([[3.0, 0.0]] * 20 + [[0.0, 3.0]] * 20 + [[0.1, 0.0]] * 10, np.float32)
    y = task.encode(["a"] * 20 + ["b"] * 20 + ["new"] * 10)
    task = task.calibrate(scores[:40], y[:40], 0.9)
    judged = task.metrics(scores, y)
    assert judged["accuracy"] == 0.8
    assert judged["in_scope"] == {"rows": 40, "accuracy": 1.0}
    assert judged["out_of_scope"]["auroc"] == 1.0
    assert judged["out_of_scope"]["rejected"] == 1.0
    assert all(task.decode(scores)["t_unknown"][40:])
    assert not any(task.decode(scores)["t_automated"][40:])


def test_rows_that_look_out_of_scope_do_not_cost_the_others_their_automation():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 4000)
    scores = (4 * np.eye(3)[y] + rng.normal(0, 0.8, (4000, 3))).astype(np.float32)
    task = Classify.of("t", [str(each) for each in y]).calibrate(scores, y, 0.95)
    judged = task.metrics(scores, y)
    assert judged["automation_rate"] > 0.9
    assert judged["automation_precision"] > 0.95


def test_one_class_free_text_and_constants_are_refused():
    with pytest.raises(DataError, match="only one class"):
        Classify.of("t", ["a"] * 9)
    with pytest.raises(DataError, match="identifier or free text"):
        Classify.of("t", [f"text {each}" for each in range(100)])
    with pytest.raises(DataError, match="always 3"):
        Regress.of("t", ["3"] * 9)
    with pytest.raises(DataError, match="not a number"):
        Regress.of("t", ["3", "four"])
    with pytest.raises(DataError, match="no tag"):
        Tag.of("t", ["", ""])


def test_tags_are_read_from_lists_and_texts():
    assert tags("b | a;b|") == ["a", "b"]
    assert tags(["b", " a ", ""]) == ["a", "b"]
    task = Tag.of("t", ["a|b", "a", "b", "rare"])
    assert task.labels == ("a", "b")
    assert task.encode(["b|unseen", ""]).tolist() == [[0, 1], [0, 0]]


def test_the_interval_of_a_number_covers_what_it_says():
    rng = np.random.default_rng(0)
    truth = rng.normal(100, 20, 2000)
    task = Regress.of("t", truth)
    y = task.encode(truth)
    scores = (y + rng.normal(0, 0.3, 2000))[:, None].astype(np.float32)
    task = task.calibrate(scores[:1000], y[:1000], 0.95)
    judged = task.metrics(scores[1000:], y[1000:])
    assert judged["interval_coverage"] == pytest.approx(0.9, abs=0.03)
    assert judged["r2"] == pytest.approx(0.91, abs=0.02)


def test_without_signal_nothing_is_automated():
    task = Classify.of("t", ["a", "a", "b"]).without_signal()
    answers = task.decode(np.tile(task.majority(), (4, 1)))
    assert answers["t"] == ["a"] * 4
    assert answers["t_confidence"][0] == pytest.approx(2 / 3, abs=1e-3)
    assert not any(answers["t_automated"])
