"""Pairs: the contrastive loss is the paper's, and batches hold several rows of each of their classes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")

from headstart.training.pairs import alike, balanced, contrast  # noqa: E402

pytestmark = pytest.mark.slow


def written_out(vectors, y, temperature):
    """The loss of Khosla and others, equation 2, term by term."""
    total, rows = 0.0, 0
    for i in range(len(y)):
        others = [a for a in range(len(y)) if a != i]
        like = [p for p in others if y[p] == y[i]]
        if like:
            below = sum(np.exp(vectors[i] @ vectors[a] / temperature) for a in others)
            total -= sum(np.log(np.exp(vectors[i] @ vectors[p] / temperature) / below) for p in like) / len(like)
            rows += 1
    return total / rows


def test_the_loss_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((9, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    y = np.array([0, 0, 1, 1, 1, 2, 0, 3, 2])
    same = alike(torch.from_numpy(y), torch.ones(9, dtype=torch.bool))
    found = contrast(torch.from_numpy(vectors).float(), same, 0.2)
    assert float(found) == pytest.approx(written_out(vectors, y, 0.2), rel=1e-4)
    # A row without an answer is like no other, but the others are still told from it.
    known = torch.tensor([True] * 8 + [False])
    assert float(contrast(torch.from_numpy(vectors).float(), alike(torch.from_numpy(y), known), 0.2)) == pytest.approx(
        written_out(vectors, np.array([*y[:8], -1]), 0.2), rel=1e-4
    )


def test_rows_of_which_none_is_like_another_teach_nothing():
    vectors = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.manual_seed(0)), dim=1).requires_grad_()
    loss = contrast(vectors, alike(torch.arange(3), torch.ones(3, dtype=torch.bool)), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert not vectors.grad.any()


def test_tags_are_alike_by_their_shared_part():
    marks = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    found = alike(marks, torch.ones(4, dtype=torch.bool))
    assert found[0].tolist() == [1, 0.5, 0, 0]
    assert found[3].tolist() == [0, 0, 0, 0]


def test_batches_are_balanced():
    strata = np.array([0] * 60 + [1] * 20 + [2] * 3 + [-1] * 5)
    sizes = np.arange(len(strata))
    rows = np.flatnonzero(np.arange(len(strata)) % 7 != 6)
    deal = balanced(strata, 4)
    made = deal(sizes, rows, 12, 0, 0, 0)
    for batch in made:
        assert set(batch) <= set(rows)
        numbers, counts = np.unique(strata[batch], return_counts=True)
        assert set(counts % 4) == {0}
        assert list(sizes[batch]) == sorted(sizes[batch], reverse=True)
        assert -1 not in numbers
    every = strata[np.concatenate(made)]
    assert len(set(np.bincount(every))) == 1
    assert abs(len(every) - (strata[rows] >= 0).sum()) <= 12
    assert all(np.array_equal(a, b) for a, b in zip(made, deal(sizes, rows, 12, 0, 0, 0), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(made, deal(sizes, rows, 12, 0, 0, 1), strict=True))
