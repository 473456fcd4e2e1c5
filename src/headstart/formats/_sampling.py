"""Choose the next token from a network's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

OTHERS: Mapping[str, int | None] = {
    **dict.fromkeys(("encoder_repetition_penalty", "guidance_scale", "typical_p"), 1),
    **dict.fromkeys(("min_length", "min_new_tokens", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), 0),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff", "min_p"), 0),
    **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias"), None),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"), None),
    **dict.fromkeys(("top_h", "watermarking_config"), None),
}
"""A network's own ways of choosing tokens that only PyTorch's library has, and with what value each does nothing."""


class Sampler:
    """Draws one token for each text; a text's tokens depend on its own scores and the seed, not on its neighbours.

    Args:
        settings: `temperature` (0 takes the likeliest), `top_k` (0 keeps all), `top_p` (1 keeps all), `seed` (or None).
        texts: how many texts are written side by side.
    """

    def __init__(self, settings: Mapping[str, Any], texts: int) -> None:
        self.temperature = float(settings.get("temperature") or 0)
        self.top_k, self.top_p = int(settings.get("top_k") or 0), float(settings.get("top_p") or 1)
        seed = settings.get("seed")
        self.chance: Sequence[np.random.Generator] = [np.random.default_rng(seed) for _ in range(texts)]

    def pick(self, logits: np.ndarray) -> np.ndarray:
        """Return the tokens (texts,) drawn from logits (texts, vocabulary)."""
        if self.temperature <= 0:
            return logits.argmax(axis=1)
        return np.array([self._draw(row, chance) for row, chance in zip(logits, self.chance, strict=True)], np.int64)

    def _draw(self, logits: np.ndarray, chance: np.random.Generator) -> int:
        shares, tokens = kept(logits / self.temperature, self.top_k, self.top_p)
        edges = np.cumsum(shares)
        return int(tokens[np.searchsorted(edges, chance.random() * edges[-1], side="right").clip(max=len(tokens) - 1)])


def drawing(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a `Sampler`: the user's, and in place of those not set the network's own.

    Args:
        own: `do_sample`, and `temperature`, `top_k` and `top_p`, for which transformers takes 1, 50 and 1 where they
            are not set.
    """
    if own.get("do_sample"):
        usual = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
        base = {name: each if own.get(name) is None else own[name] for name, each in usual.items()}
    else:
        base = {"temperature": 1.0 if settings.get("top_p") is not None else 0.0}
    return {**base, **{name: each for name, each in settings.items() if each is not None}}


def asked_for(own: Mapping[str, Any], known: Sequence[str] = ()) -> list[str]:
    """Return which of `OTHERS` a network asks for, but for those that are known."""
    return [name for name, none in OTHERS.items() if name not in known and own.get(name) not in (None, [], {}, none)]


def kept(logits: np.ndarray, top_k: int, top_p: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of the tokens that may be drawn, likeliest first, and their numbers.

    `top_k` keeps as many; of these, `top_p` keeps the likeliest whose shares first reach it, one at the least
    (Holtzman et al. 2020).

    >>> kept(np.log([0.5, 0.3, 0.2]), 0, 0.6)[1]
    array([0, 1])
    """
    logits = logits.astype(np.float64)
    if 0 < top_k < len(logits):
        tokens = np.argpartition(-logits, top_k - 1)[:top_k]
    else:
        tokens = np.flatnonzero(logits > -np.inf)
    tokens = tokens[np.argsort(-logits[tokens], kind="stable")]
    shares = np.exp(logits[tokens] - logits[tokens[0]])
    shares /= shares.sum()
    if top_p < 1:
        count = int(np.searchsorted(np.cumsum(shares), top_p, side="left")) + 1
        shares, tokens = shares[:count], tokens[:count]
    return shares, tokens
