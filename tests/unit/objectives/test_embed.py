"""Pairs of texts: which columns they are, how they are learnt, and how vectors are judged by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import spearmanr

from headstart.core.arrays import Session
from headstart.core.dataset import Dataset
from headstart.core.errors import DataError, UsageError
from headstart.objectives import _ranks
from headstart.objectives.embed import Embed
from headstart.testing.courses import toy_network

TABLE = {
    "question": ["where is my order", "refund please", "my parcel", "where is my order"],
    "answer": ["the parcel has arrived", "a refund", "the parcel has arrived", "my invoice"],
}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return toy_network(tmp_path_factory.mktemp("networks") / "bert")


def made(table=None, kinds=None, **columns):
    dataset = Dataset(table or TABLE, kinds=kinds or {})
    return Embed.of(dataset, range(len(dataset)), columns)


def test_the_columns_are_found_or_asked_for():
    assert made().columns == ("question", "answer") and made().primary == "mrr"
    assert made({"Title": ["a"], "n": [1], "Body": ["b"]}).columns == ("Title", "Body")
    assert made({"x": ["a"], "y": ["b"]}, {"x": "text", "y": "text"}).columns == ("x", "y")
    assert made(input="answer", target="question").columns == ("answer", "question")
    assert made({**TABLE, "passage": ["p"] * 4, "query": ["q"] * 4}, target="passage").columns == ("query", "passage")
    with pytest.raises(DataError, match="not known") as wrong:
        made({"x": ["a"], "y": ["b"]})
    assert "--input COLUMN --target COLUMN" in wrong.value.hint
    with pytest.raises(DataError, match="'answr'") as wrong:
        made(input="question", target="answr")
    assert "answer" in wrong.value.hint
    with pytest.raises(DataError, match="both texts"):
        made(input="answer", target="answer")
    with pytest.raises(DataError, match="no text"):
        made({"question": ["a"], "answer": [" "]})


def test_grades_make_another_measure():
    graded = made({**TABLE, "score": ["1", "0.5", 0, "none"]})
    assert graded.primary == "spearman" and list(graded.unusable({**TABLE, "score": ["1", "0.5", 0, "none"]})) == [3]
    with pytest.raises(DataError, match="do not differ"):
        made({**TABLE, "score": [1, 1, "1.0", None]})
    with pytest.raises(DataError, match="'score'"):
        graded.unusable(TABLE)


def test_only_text_networks_learn_pairs(network):
    from dataclasses import replace

    picture = replace(network, backbone=replace(network.backbone, modality="image"))
    with pytest.raises(UsageError, match="reads image"):
        made().ready(picture)
    assert made().ready(network) == {}


def test_a_batch_holds_the_first_texts_and_then_the_second(network):
    couples = made().examples(network, TABLE, 0)
    batch = couples.batch(np.array([2, 0]))
    assert len(batch["lengths"]) == 4 and batch["lengths"].sum() == len(batch["ids"])
    alone = [couples.batch(np.array([row])) for row in (2, 0)]
    parts = np.split(batch["ids"], np.cumsum(batch["lengths"])[:-1])
    for row, one in enumerate(alone):
        assert np.array_equal(np.concatenate([parts[row], parts[row + 2]]), one["ids"])
    assert batch["second"][0] == batch["second"][1], "equal texts have one number"
    whole = couples.batch(np.arange(4))
    assert whole["first"][0] == whole["first"][3] and len(set(whole["first"].tolist())) == 3
    assert couples.sizes.tolist() == [max(len(couples.parts[row]), len(couples.parts[row + 4])) for row in range(4)]
    graded = made({**TABLE, "score": [1, 2, 3, 4]}).examples(network, {**TABLE, "score": [1, 2, 3, 4]}, 0)
    assert graded.batch(np.array([3, 1]))["grades"].tolist() == [4.0, 2.0]


def test_long_texts_are_told_of(network):
    table = {"question": ["my order " * 60, "refund"], "answer": ["a", "b"]}
    assert made(table).examples(network, table, 0).notes == ["1 of 4 texts are cut at 48 tokens."]


class Known(Session):
    """A network whose vectors point where the first of a text's words says."""

    def __init__(self, directions):
        self.directions = directions

    def run(self, arrays):
        starts = np.cumsum(arrays["lengths"]) - arrays["lengths"]
        return {"embedding": np.array([self.directions[arrays["ids"][at + 1]] for at in starts], np.float32)}


def test_a_counterpart_is_looked_for_among_all(network):
    from tokenizers import Tokenizer

    number = Tokenizer.from_file(str(network.folder / "tokenizer.json")).token_to_id
    angles = {"where": 0, "refund": 90, "my": 10, "the": 0, "a": 80}
    session = Known({number(word): [np.cos(np.radians(at)), np.sin(np.radians(at))] for word, at in angles.items()})
    # "where …" finds "the …" and "my invoice" at once, both right; "my parcel" finds "my invoice" before "the …".
    found = made().measure(network, session, TABLE, 0)
    assert found["answers"] == 3 and found["recall_10"] == 1
    assert found["mrr"] == pytest.approx((1 + 1 + 1 / 2 + 1) / 4) and found["recall_1"] == 3 / 4
    assert found["mrr_ci"][0] <= found["mrr"] <= found["mrr_ci"][1]
    graded = {**TABLE, "score": [3, 2, 1, 0]}
    cosines = np.cos(np.radians([0, 10, 10, 10]))
    rho = made(graded).measure(network, session, graded, 0)["spearman"]
    assert rho == pytest.approx(spearmanr(np.round(cosines, 6), graded["score"]).statistic)


def test_vectors_that_are_all_alike_find_nothing():
    same = np.ones((5, 3), np.float32)
    assert _ranks.ranks(same, same, [{row} for row in range(5)]).tolist() == [5] * 5


@given(some.integers(1, 12), some.integers(1, 9), some.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_ranks_are_those_of_sorting(rows, answers, seed):
    rng = np.random.default_rng(seed)
    asked, found = rng.standard_normal((rows, 4)), rng.standard_normal((answers, 4))
    right = [set(rng.choice(answers, rng.integers(1, answers + 1), replace=False).tolist()) for _ in range(rows)]
    for each, own, place in zip(asked, right, _ranks.ranks(asked, found, right), strict=True):
        order = np.argsort(-(found @ each)).tolist()
        assert place == 1 + min(order.index(one) for one in own)


@given(some.lists(some.integers(0, 5), min_size=3, max_size=20), some.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_the_order_is_spearmans(grades, seed):
    grades = np.array(grades, float)
    likeness = np.random.default_rng(seed).integers(0, 4, len(grades)).astype(float)
    found = _ranks.order(likeness, grades, 0)["spearman"]
    if len(set(grades)) == 1:
        assert found is None
    elif len(set(likeness)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(spearmanr(likeness, grades).statistic)


class TestLosses:
    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")
        from headstart.formats import _pairs

        self.pairs = _pairs

    def unit(self, rows, seed=0):
        drawn = self.torch.randn(rows, 6, generator=self.torch.Generator().manual_seed(seed))
        return self.torch.nn.functional.normalize(drawn, dim=1)

    def test_all_others_of_a_batch_are_wrong_answers(self):
        first, second, number = self.unit(5), self.unit(5, 1), self.torch.arange(5)
        found = float(self.pairs.together(first, second, number, 5 + number))
        likeness = 20 * first.numpy() @ second.numpy().T
        one, other = (each - np.log(np.exp(each).sum(1, keepdims=True)) for each in (likeness, likeness.T))
        assert found == pytest.approx(-(np.diag(one).mean() + np.diag(other).mean()) / 2, rel=1e-4)

    def test_a_text_that_comes_twice_is_no_wrong_answer_to_itself(self):
        first, second = self.unit(3), self.unit(3, 1)
        numbers = self.torch.tensor
        both = self.torch.cat([first[:1], first]), self.torch.cat([second[:1], second])
        twice = float(self.pairs.together(*both, numbers([0, 0, 1, 2]), numbers([3, 3, 4, 5])))
        own = [self.pairs.together(first, second, numbers([0, 1, 2]), numbers([3, 4, 5]))]
        assert np.isfinite(twice)
        # Row 0 sees what it saw alone; rows 1 and 2 see its counterpart twice.
        assert twice != pytest.approx(float(own[0]))
        crossed = first[:2], self.torch.stack([second[0], first[0]])
        assert float(self.pairs.together(*crossed, numbers([0, 1]), numbers([2, 0]))) < float(
            self.pairs.together(*crossed, numbers([0, 1]), numbers([2, 3]))
        )

    def test_a_single_pair_says_nothing(self):
        lone = self.unit(1), self.unit(1, 1)
        number = self.torch.arange(1)
        assert float(self.pairs.together(*lone, number, 1 + number)) == 0
        assert float(self.pairs.ordered(self.torch.tensor([0.3]), self.torch.tensor([1.0]))) == 0

    def test_only_the_order_of_grades_counts(self):
        likeness = self.torch.tensor([0.1, 0.5, 0.9])
        grades = self.torch.tensor([0.0, 1.0, 1.0])
        wanted = np.log(1 + sum(np.exp(20 * (low - high)) for low, high in ((0.1, 0.5), (0.1, 0.9))))
        assert float(self.pairs.ordered(likeness, grades)) == pytest.approx(wanted, rel=1e-4)
        assert float(self.pairs.ordered(likeness, 7 * grades - 3)) == pytest.approx(wanted, rel=1e-4)
        assert float(self.pairs.ordered(likeness, -grades)) > 10
