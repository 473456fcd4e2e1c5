"""Learn a language by hidden tokens with a network that has no layers for it: its token embeddings tell the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch

from headstart.training.learner import Learner
from headstart.training.masking import IGNORED


@final
class Tied(Learner):
    """An encoder that tells hidden tokens by its own token embeddings, through one small layer that begins as nothing.

    Sentence encoders are published without the layers that they first learnt by. Weights that are tied to the token
    embeddings (Press and Wolf 2017, arXiv:1608.05859) need none but a linear map, which begins as the identity, a norm,
    and a bias for each token; all that is thrown away afterwards.

    Args:
        built: a text network that is opened to embed.
    """

    def __init__(self, built: Any) -> None:
        super().__init__(built)
        tokens, width = self.embeddings.shape
        given = built.module.config.get_text_config().hidden_size
        linear = torch.nn.Linear(given, width)
        with torch.no_grad():
            torch.nn.init.eye_(linear.weight)
            linear.bias.zero_()
        self.head = torch.nn.ModuleDict({"map": linear, "norm": torch.nn.LayerNorm(width)})
        self.head.register_parameter("bias", torch.nn.Parameter(torch.zeros(tokens)))
        self.gather()

    @property
    def embeddings(self) -> Any:
        """The network's token embeddings (vocabulary, width)."""
        return self.network.get_input_embeddings().weight

    def forward(self, given: Mapping[str, Any], rows: Any) -> Any:
        """Return the mean loss () of the hidden tokens, in nats."""
        answers = given["answers"].long()
        told = answers != IGNORED
        hidden = self.built.hidden({name: each for name, each in given.items() if name != "answers"})[told]
        mapped = self.head["norm"](self.head["map"](hidden))
        scores = torch.nn.functional.linear(mapped.float(), self.embeddings.float(), self.head.bias)
        return torch.nn.functional.cross_entropy(scores.float(), answers[told], reduction="sum") / max(len(mapped), 1)
