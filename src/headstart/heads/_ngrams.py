"""TF-IDF weights of word and character n-grams, the same in training and in serving, without scikit-learn.

Words of two letters and more, single and in pairs, and character n-grams of 3 and 4 inside word boundaries, each block
sublinear in term frequency and of unit length (Salton & Buckley, 1988), so that both count alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headstart.core.arrays import Arrays

WORD = re.compile(r"\w\w+")
GRAMS = (3, 4)
LONGEST = 4_000
"""Characters of a text that are looked at."""
MANY = 2_000
"""Texts from which n-grams of a single text are dropped."""
LARGEST = 40_000
"""N-grams kept at most, the commonest first."""
COMMON = 0.1
"""Share of texts above which a character n-gram says nothing."""


def words(text: str) -> list[str]:
    """Return single words and pairs, of a lower-cased text."""
    tokens = WORD.findall(text)
    return tokens + [f"{left} {right}" for left, right in zip(tokens, tokens[1:], strict=False)]


def characters(text: str) -> list[str]:
    """Return character n-grams within words padded by one space, marked by a leading tab to tell them from words."""
    found = []
    for word in text.split():
        padded = f" {word} "
        for size in GRAMS:
            found += [f"\t{padded[at : at + size]}" for at in range(max(1, len(padded) - size + 1))]
    return found


@dataclass(frozen=True)
class Sparse:
    """Rows of few numbers: `columns` and `values` of row i lie at `starts[i]:starts[i + 1]`."""

    columns: np.ndarray
    values: np.ndarray
    starts: np.ndarray


@dataclass(frozen=True)
class Vocabulary:
    """The n-grams that count, and their inverse document frequencies (features,) float32."""

    grams: tuple[str, ...]
    idf: np.ndarray

    @cached_property
    def place(self) -> dict[str, int]:
        """Each n-gram's feature number."""
        return {gram: number for number, gram in enumerate(self.grams)}

    @staticmethod
    def fit(texts: Sequence[str]) -> Vocabulary:
        """Choose the n-grams of training texts."""
        document: Counter[str] = Counter()
        for text in texts:
            lowered = text[:LONGEST].casefold()
            document.update(set(words(lowered)))
            document.update(set(characters(lowered)))
        rows = len(texts)
        least = {False: 2, True: 3} if rows >= MANY else {False: 1, True: 1}
        kept = [
            (gram, count)
            for gram, count in document.items()
            if count >= least[gram[0] == "\t"] and (gram[0] != "\t" or rows < 50 or count <= COMMON * rows)
        ]
        kept.sort(key=lambda each: (-each[1], each[0]))
        kept = kept[:LARGEST]
        counts = np.array([count for _, count in kept], dtype=np.float64)
        idf = np.log((1 + rows) / (1 + counts)) + 1
        return Vocabulary(tuple(gram for gram, _ in kept), idf.astype(np.float32))

    def weigh(self, texts: Sequence[str]) -> Sparse:
        """Return the TF-IDF weights of texts; each row has unit length where both blocks have an n-gram."""
        columns: list[np.ndarray] = []
        values: list[np.ndarray] = []
        for text in texts:
            parts = [self._block(grams) for grams in self._blocks(text)]
            columns.append(np.concatenate([part[0] for part in parts]))
            values.append(np.concatenate([part[1] for part in parts]))
        lengths = np.array([len(each) for each in columns], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        if not len(texts):
            return Sparse(np.zeros(0, np.int64), np.zeros(0, np.float32), starts)
        return Sparse(np.concatenate(columns), np.concatenate(values), starts)

    def _blocks(self, text: str) -> Iterator[list[str]]:
        lowered = text[:LONGEST].casefold()
        yield words(lowered)
        yield characters(lowered)

    def _block(self, grams: list[str]) -> tuple[np.ndarray, np.ndarray]:
        place = self.place
        counts = Counter(place[gram] for gram in grams if gram in place)
        columns = np.fromiter(counts.keys(), dtype=np.int64, count=len(counts))
        values = (1 + np.log(np.fromiter(counts.values(), dtype=np.float32, count=len(counts)))) * self.idf[columns]
        norm = float(np.sqrt((values * values).sum()))
        return columns, (values * np.float32(0.5**0.5 / norm if norm else 0.0)).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the vocabulary as plain arrays."""
        joined = "\n".join(self.grams).encode("utf-8")
        return {"grams": np.frombuffer(joined, dtype=np.uint8), "idf": self.idf}

    @staticmethod
    def of(arrays: Arrays) -> Vocabulary:
        """Make the vocabulary from its arrays."""
        text = arrays["grams"].tobytes().decode("utf-8")
        return Vocabulary(tuple(text.split("\n")) if text else (), arrays["idf"])


def product(sparse: Sparse, weights: np.ndarray) -> np.ndarray:
    """Return sparse rows times weights (features, width), (n, width) float32."""
    rows = len(sparse.starts) - 1
    result = np.zeros((rows, weights.shape[1]), np.float32)
    for row in range(rows):
        part = slice(sparse.starts[row], sparse.starts[row + 1])
        result[row] = sparse.values[part] @ weights[sparse.columns[part]].astype(np.float32)
    return result
