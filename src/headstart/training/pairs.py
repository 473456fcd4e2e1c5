"""Learning by pairs: rows of like answers are drawn together, and others apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def contrast(vectors: Any, alike: Any, temperature: float) -> Any:
    """Return the supervised contrastive loss () of a batch, 0 where no two rows are alike.

    For each row, the mean over the rows like it of minus the log of their share of the similarity to all others
    (Khosla and others 2020, arXiv:2004.11362, equation 2).

    Args:
        vectors: (n, width) of unit length.
        alike: (n, n) from 0 to 1, how much two rows' answers have in common.
        temperature: of the similarity.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        vectors = vectors.float()
        own = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
        likeness = (vectors @ vectors.T / temperature).masked_fill(own, float("-inf"))
        logs = (likeness - likeness.logsumexp(dim=1, keepdim=True)).masked_fill(own, 0.0)
        weights = alike.to(vectors).masked_fill(own, 0.0)
        total = weights.sum(dim=1)
        has = total > 0
        if not has.any():
            return vectors.sum() * 0.0
        return -((weights * logs).sum(dim=1)[has] / total[has]).mean()


def alike(y: Any, known: Any) -> Any:
    """Return how much the answers of rows have in common (n, n): 1 for one class, the shared part of two sets of marks.

    Args:
        y: classes (n,) or marks (n, labels).
        known: (n,) whether a row has an answer; one without has nothing in common with any.
    """
    if y.ndim == 1:
        same = (y[:, None] == y[None]).float()
    else:
        marks = y.float()
        both = marks @ marks.T
        either = marks.sum(1)[:, None] + marks.sum(1)[None] - both
        same = both / either.clamp(min=1)
    return same * known[:, None] * known[None]


def balanced(strata: np.ndarray, each: int = 4) -> Callable[..., list[np.ndarray]]:
    """Return what deals rows so that a batch has several rows of each of its classes, and all classes come alike often.

    Args:
        strata: the class of each row (n,); -1 where it has none, and the row is left out.
        each: rows of one class that stand together in a batch.

    Returns:
        A function with the arguments of `batches`; an epoch reads about as many rows as there are, rows of rare classes
        more than once.
    """

    def deal(sizes: np.ndarray, rows: np.ndarray, count: int, longest: int, seed: int, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([seed, epoch])
        own = [rows[strata[rows] == number] for number in np.unique(strata[rows]) if number >= 0]
        pieces = max(1, round(sum(map(len, own)) / (each * len(own))))
        rounds: list[list[np.ndarray]] = [[] for _ in range(pieces)]
        for members in own:
            wanted = pieces * each
            drawn = np.concatenate([rng.permutation(members) for _ in range(-(-wanted // len(members)))])
            for number, piece in enumerate(np.split(drawn[:wanted], pieces)):
                rounds[number].append(piece)
        order = [piece for some in rounds for piece in (some[place] for place in rng.permutation(len(some)))]
        size = max(2, count // each)
        made = [np.concatenate(order[start : start + size]) for start in range(0, len(order), size)]
        return [batch[np.argsort(-sizes[batch], kind="stable")] for batch in made]

    return deal
