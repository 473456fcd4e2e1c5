"""Which rows learn together: shuffled, and of like size in each batch, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from headstart.core.course import Examples

WINDOW = 16
"""Batches from which rows of like size are put together."""


def batches(sizes: np.ndarray, rows: np.ndarray, count: int, longest: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the rows of each batch of an epoch, the largest row of a batch first; alike for the same seed and epoch.

    Args:
        sizes: how long each row is (n,), such as its tokens.
        rows: the rows to learn from.
        count: rows of one batch.
        longest: sizes that a batch may hold in all, padding included; a batch of long rows holds fewer. 0 is no limit.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(rows)
    made: list[np.ndarray] = []
    for start in range(0, len(order), WINDOW * count):
        window = order[start : start + WINDOW * count]
        window = window[np.argsort(-sizes[window], kind="stable")]
        at = 0
        while at < len(window):
            room = max(1, longest // max(int(sizes[window[at]]), 1)) if longest else count
            made.append(window[at : at + min(count, room)])
            at += len(made[-1])
    return [made[each] for each in rng.permutation(len(made))]


def ahead(
    examples: Examples, planned: Sequence[np.ndarray], epoch: int | None
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield each batch's rows and arrays; the next ones are made while those before are learnt from."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(examples.batch, planned[0], epoch) if planned else None
        for number, rows in enumerate(planned):
            assert coming is not None
            arrays = coming.result()
            if number + 1 < len(planned):
                coming = pool.submit(examples.batch, planned[number + 1], epoch)
            yield rows, arrays
