"""A linear model of word and character n-grams, learnt from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.head import Head
from headstart.heads._ngrams import Vocabulary, product


@final
class Ngrams(Head):
    """Scores `tfidf(text) @ weights + bias`; reads `text`.

    Args:
        vocabulary: the n-grams.
        weights: (n-grams, width), kept in float16.
        bias: (width,).
    """

    def __init__(self, vocabulary: Vocabulary, weights: np.ndarray, bias: np.ndarray) -> None:
        self.vocabulary, self.weights, self.bias = vocabulary, weights.astype(np.float16), bias.astype(np.float32)

    @property
    def reads(self) -> Sequence[str]:
        """The text."""
        return ("text",)

    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return (n, width)."""
        return product(self.vocabulary.weigh(arrays["text"]), self.weights) + self.bias

    def spec(self) -> dict[str, Any]:
        """Return no settings."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return vocabulary, weights and bias."""
        return {**self.vocabulary.arrays(), "weights": self.weights, "bias": self.bias}

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> Ngrams:
        """Make the head from its arrays."""
        return cls(Vocabulary.of(arrays), arrays["weights"], arrays["bias"])
