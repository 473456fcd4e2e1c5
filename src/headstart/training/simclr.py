"""Learn from rows without labels: two views of one row lie together, and apart from those of all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch

from headstart.training.learner import Learner
from headstart.training.pairs import contrast

TEMPERATURE = 0.2
PROJECTED = 128
"""Numbers of the vectors that are compared."""


@final
class Alike(Learner):
    """A network whose embeddings tell two views of a row from those of other rows (SimCLR: Chen and others 2020,
    arXiv:2002.05709), through two small layers that are thrown away afterwards.

    Args:
        built: a network that is opened to embed.
        width: of its embedding.
    """

    def __init__(self, built: Any, width: int) -> None:
        super().__init__(built)
        layers = torch.nn
        self.head = layers.Sequential(layers.Linear(width, width), layers.ReLU(), layers.Linear(width, PROJECTED))
        self.gather()

    def forward(self, given: Mapping[str, Any], rows: Any) -> Any:
        """Return how unlikely each view's own counterpart is among all of the batch, () in nats."""
        projected = self.head(self.built.run(given)["embedding"].float()).float()
        vectors = torch.nn.functional.normalize(projected, dim=1)
        number = torch.arange(len(vectors) // 2, device=vectors.device).repeat(2)
        return contrast(vectors, number[:, None] == number, TEMPERATURE)
