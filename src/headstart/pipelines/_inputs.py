"""From inputs to what a session reads, by the network's own modality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from headstart import modalities
from headstart.core.backbone import Network

COLUMN = "input"


def encoded(network: Network, inputs: Sequence[Any], size: int = 32) -> Iterator[dict[str, np.ndarray]]:
    """Yield what the session reads for each batch of at most `size` inputs, in order."""
    name = network.backbone.modality
    modality = modalities.registry.get(name).of({"columns": [COLUMN]}).bind(network)
    for start in range(0, len(inputs), size):
        yield modality.encode(modality.prepare({COLUMN: list(inputs[start : start + size])}))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities (…, classes) of logits."""
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)
