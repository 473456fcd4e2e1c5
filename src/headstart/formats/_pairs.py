"""What a network that embeds learns from pairs of texts: those that belong together come close, or in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.formats._transformers import torch

SCALE = 20.0
"""By what cosines are multiplied before they are weighed against each other: 1 / temperature."""


def pairs_loss(vectors: Any, given: Mapping[str, Any]) -> Any:
    """Return the loss () of pairs: graded ones where there are `grades` (n,), else ones that belong together.

    Args:
        vectors: (2n, width), the pairs' first texts and then their second ones.
        given: `first`, `second` (n,): numbers of the texts, alike where the texts are; `grades` (n,) or none.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        first, second = torch.nn.functional.normalize(vectors.float(), dim=1).chunk(2)
        if "grades" in given:
            return ordered((first * second).sum(dim=1), given["grades"].float())
        return together(first, second, given["first"], given["second"])


def together(first: Any, second: Any, ones: Any, others: Any) -> Any:
    """Return how unlikely each text's own counterpart is among all of the batch, () in nats, from both sides.

    Multiple negatives ranking (Henderson and others 2017, arXiv:1705.00652). A text that stands in the batch more than
    once, or on both sides, is no wrong answer to itself: it is left out.

    Args:
        first: (n, width) of unit length.
        second: (n, width) of unit length.
        ones: (n,) numbers of the first texts.
        others: (n,) numbers of the second texts.
    """
    likeness = SCALE * first @ second.T
    same = (ones[:, None] == ones) | (others[:, None] == others) | (ones[:, None] == others)
    own = torch.eye(len(first), dtype=torch.bool, device=first.device)
    likeness = likeness.masked_fill(same & ~own, float("-inf"))
    answers = torch.arange(len(first), device=first.device)
    entropy = torch.nn.functional.cross_entropy
    return (entropy(likeness, answers) + entropy(likeness.T, answers)) / 2


def ordered(likeness: Any, grades: Any) -> Any:
    """Return how far the cosines (n,) of pairs are from the order of their grades (n,), () (CoSENT).

    log(1 + sum of exp(scale · (cosine of a lower grade - cosine of a higher one))) over all such two pairs: only the
    order of the grades counts, so that they may be of any unit.
    """
    below = grades[:, None] < grades
    gaps = SCALE * (likeness[:, None] - likeness)[below]
    return torch.logsumexp(torch.cat([gaps.new_zeros(1), gaps]), dim=0)
