"""Classes in order of their probability, as records and as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.core.errors import UsageError


def ranked(names: Sequence[str], shares: np.ndarray, top: int) -> dict[str, Any]:
    """Return the best class's `label` and `score`, and `top`: the best ones in order.

    Raises:
        UsageError: `top` is below 1.
    """
    best = np.argsort(-shares, kind="stable")[: how_many(top)]
    found = [{"label": names[each], "score": round(float(shares[each]), 6)} for each in best]
    return {**found[0], "top": found}


def how_many(top: Any) -> int:
    """Return how many answers are asked for.

    Raises:
        UsageError: less than 1.
    """
    if int(top) < 1:
        raise UsageError(f"--top is {top}.", allowed="It is 1 or more.")
    return int(top)


def lines(record: Mapping[str, Any]) -> str:
    """Return a line for each class."""
    return "\n".join(f"{each['score']:8.2%}  {each['label']}" for each in record["top"])
