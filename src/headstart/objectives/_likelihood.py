"""Perplexity: how many tokens a network hesitates between, on average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from headstart.core.metrics import bounded

DRAWS = 200
LARGEST = 700.0
"""Nats above which a perplexity is no number any more."""


def perplexity(nats: np.ndarray, tokens: np.ndarray, name: str, seed: int) -> dict[str, Any]:
    """Return exp(nats per token) over all rows and its bootstrap interval by rows; None where there are no tokens.

    `_drawn` (draws,) is what the interval is made of: for the same rows and seed, each draw is of the same rows.

    Args:
        nats: (n,) how unlikely the tokens of each row are.
        tokens: (n,) how many there are.
        name: what it is called.
    """
    if not tokens.sum():
        return {name: None, f"{name}_ci": None}
    drawn = np.random.default_rng(seed).integers(0, len(nats), size=(DRAWS, len(nats)))
    rates = nats[drawn].sum(axis=1) / np.maximum(tokens[drawn].sum(axis=1), 1)
    values = np.exp(np.minimum(rates, LARGEST))
    return {
        "_drawn": values.tolist(),
        name: math.exp(min(float(nats.sum() / tokens.sum()), LARGEST)),
        f"{name}_ci": bounded(values),
    }
