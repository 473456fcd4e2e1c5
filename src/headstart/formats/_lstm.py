"""Small recurrent language models: LSTM layers over characters or words, in the layout of textgenrnn (Woolf 2017).

The embedding and the output of each layer stand side by side; their average over the window, weighted by attention,
gives the next symbol. The window is always full: symbol 0 stands in front of a short text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.formats._checkpoint import fit, tensors
from headstart.formats._sampling import Sampler


def build(network: Network) -> Recurrent:
    """Return the network, sized as its tensors are.

    Raises:
        HubError: the tensors are not those of such a network.
    """
    found = tensors(network.weights)
    module = Layers(found, network.backbone.reference)
    fit(module, found, network.weights.name)
    return Recurrent(module, network.config)


class Layers(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """`emb`, LSTM layers `rnn1`, `rnn2` …, `att` and `out`: a window (n, symbols) in, logits (n, vocabulary) out."""

    def __init__(self, found: Mapping[str, Any], name: str) -> None:
        super().__init__()
        matches = [re.fullmatch(r"rnn(\d+)\.weight_ih_l0", key) for key in found]
        numbers = sorted(int(match[1]) for match in matches if match)
        if not numbers or any(f"{part}.weight" not in found for part in ("emb", "att", "out")):
            raise HubError(
                f"'{name}' is no recurrent language model that can be built here.",
                allowed="Its tensors are called emb, rnn1, rnn2, att and out, as textgenrnn's are.",
            )
        self.emb = torch.nn.Embedding(*found["emb.weight"].shape)
        self.layers = [f"rnn{each}" for each in numbers]
        for each in self.layers:
            wide, inner = found[f"{each}.weight_ih_l0"].shape
            self.add_module(each, torch.nn.LSTM(inner, wide // 4, batch_first=True))
        self.att = torch.nn.Linear(found["att.weight"].shape[1], 1, bias="att.bias" in found)
        self.out = torch.nn.Linear(*reversed(found["out.weight"].shape))

    def forward(self, window: Any) -> Any:
        """Return the scores of the symbol that comes next."""
        inner = self.emb(window)
        parts = [inner]
        for each in self.layers:
            inner, _ = getattr(self, each)(inner)
            parts.append(inner)
        beside = torch.cat(parts, dim=-1)
        return self.out((self.att(beside).softmax(dim=1) * beside).sum(dim=1))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: so small layers gain nothing from several, and wait for one that has lost its core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Recurrent:
    """A recurrent language model that continues texts."""

    def __init__(self, module: Any, config: Mapping[str, Any]) -> None:
        self.module, self.config = module, config

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return `logits` (n, vocabulary) of the symbol after each text."""
        return {"logits": self.module(self._window(given))}

    def _window(self, given: Mapping[str, Any]) -> Any:
        """Return the last symbols of each text, (n, window), with 0 in front of short ones."""
        width = int(self.config["window"])
        rows = [each[-width:] for each in torch.split(given["ids"].long(), given["lengths"].tolist())]
        return torch.stack([torch.nn.functional.pad(each, (width - len(each), 0)) for each in rows])

    def generate(self, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield `tokens` (n,) int64 for each step; -1 where a text has come to its end.

        Args:
            given: `ids` (flat) and `lengths` (n,) of the texts to continue.
            settings: `max_tokens`, `temperature`, `top_p`, `seed` and `end`, as other networks that write take them.
        """
        window = self._window(given)
        chosen = {**self.config, **{name: each for name, each in settings.items() if each is not None}}
        sampler, over = Sampler(chosen, len(window)), np.zeros(len(window), bool)
        for _ in range(int(settings["max_tokens"])):
            with one_thread():
                logits = self.module(window).float().cpu().numpy()
            tokens = sampler.pick(logits)
            over |= np.isin(tokens, list(settings.get("end") or ()))
            yield {"tokens": torch.from_numpy(np.where(over, -1, tokens))}
            if over.all():
                return
            window = torch.cat([window[:, 1:], torch.from_numpy(tokens).to(window.device)[:, None]], dim=1)
