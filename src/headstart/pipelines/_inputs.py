"""From inputs to what a session reads, by the network's own modality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from headstart import modalities
from headstart.core.backbone import Network

COLUMN = "input"


def encoded(network: Network, inputs: Sequence[Any], size: int = 32) -> Iterator[dict[str, np.ndarray]]:
    """Yield what the session reads for each batch of at most `size` inputs, in order.

    The next batch is read and decoded while the caller runs the network on the one before it.
    """
    name = network.backbone.modality
    modality = modalities.registry.get(name).of({"columns": [COLUMN]}).bind(network)

    def made(start: int) -> dict[str, np.ndarray]:
        return modality.encode(modality.prepare({COLUMN: list(inputs[start : start + size])}))

    if len(inputs) <= size:
        if inputs:
            yield made(0)
        return
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(made, 0)
        for start in range(size, len(inputs), size):
            now, coming = coming.result(), ahead.submit(made, start)
            yield now
        yield coming.result()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities (…, classes) of logits."""
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)
