import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from headstart import heads
from headstart.core.method import Budget, Job
from headstart.core.progress import Quiet
from headstart.heads._ngrams import Vocabulary, characters, words
from headstart.methods import _rows
from headstart.tasks.classify import Classify
from headstart.tasks.regress import Regress
from headstart.testing.checks import check_head, toy_features


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(900, 3)), rng.integers(0, 12, (900, 2))], axis=1).astype(np.float32)
    x[rng.random(900) < 0.1, 0] = np.nan
    x[rng.random(900) < 0.1, 4] = np.nan
    kinds = np.array([False, False, False, True, True])
    features = {"row": x, "row_scaled": np.nan_to_num(x), "row_kind": np.tile(kinds, (900, 1))}
    score = np.nan_to_num(x[:, 0]) + (x[:, 3] % 3 == 1) * 2 - (np.nan_to_num(x[:, 4]) > 6)
    return features, kinds, score


@pytest.mark.parametrize("classes", [2, 4])
def test_trees_answer_as_scikit_learns(table, classes):
    features, kinds, score = table
    y = np.searchsorted(np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1]), score)
    task = Classify.of("t", [str(each) for each in y])
    model = HistGradientBoostingClassifier(
        max_iter=_rows.ROUNDS["few"], early_stopping=False, categorical_features=kinds, random_state=0, **_rows.TREES
    ).fit(features["row"], y)
    head = _rows.export([model], task, ("row",), None, None)
    theirs = model.decision_function(features["row"])
    ours = head.scores(features)
    assert np.allclose(ours[:, 1] - ours[:, 0] if classes == 2 else ours, theirs, atol=1e-4)
    check_head(head, features)


def test_trees_for_numbers(table):
    features, _, score = table
    task = Regress.of("t", list(score))
    y = task.encode(list(score))
    head = _rows.fit_trees(Job(task, y, features, np.arange(900), 0, Budget(), 1, Quiet()), ("row",))
    assert np.corrcoef(head.scores(features)[:, 0], y)[0, 1] > 0.95


def test_words_and_characters():
    assert words("my order a 12") == ["my", "order", "12", "my order", "order 12"]
    assert characters("ab") == ["\t ab", "\tab ", "\t ab "]
    assert characters("a") == ["\t a ", "\t a "]


def test_a_vocabulary_weighs_training_texts_as_it_weighs_new_ones():
    texts = ["my order is late", "refund my order please", "late late parcel", "ümläut straße", ""] * 3
    vocabulary, first = Vocabulary.fit(texts)
    again = Vocabulary.of(vocabulary.arrays())
    second = again.weigh(texts)
    assert again.grams == vocabulary.grams
    assert np.array_equal(first.columns, second.columns)
    assert np.allclose(first.values, second.values)
    norms = np.add.reduceat(first.values**2, first.starts[:5])[:4]
    assert np.allclose(norms, 1, atol=1e-5)


def test_text_of_nothing_known_scores_the_bias():
    vocabulary, _ = Vocabulary.fit(["alpha beta", "gamma delta"])
    head = heads.registry.get("ngrams")(vocabulary, np.ones((len(vocabulary.grams), 2)), np.array([1.0, -1.0]))
    assert head.scores({"text": np.array(["", "zzz qqq"], dtype=object)}).tolist() == [[1, -1], [1, -1]]


def test_every_kind_of_head():
    features = toy_features(60)
    rng = np.random.default_rng(1)
    linear = heads.registry.get("linear")(("embedding", "row_scaled"), rng.normal(size=(12, 3)), rng.normal(size=3))
    vocabulary, _ = Vocabulary.fit(features["text"])
    weights = rng.normal(size=(len(vocabulary.grams), 3))
    points, dual = features["embedding"][:20], rng.normal(size=(20, 3))
    kernel = heads.registry.get("kernel")(2.0, points, dual, np.zeros(3), vocabulary, weights)
    constant = heads.registry.get("constant")(np.array([0.1, 0.2, 0.7]))
    blend = heads.registry.get("blend")([(0.5, linear), (2.0, kernel), (1.0, constant)])
    for head in (linear, kernel, constant, blend, heads.registry.get("blend")([(1.0, blend)])):
        check_head(head, features)
