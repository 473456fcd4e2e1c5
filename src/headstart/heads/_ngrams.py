"""TF-IDF weights of word and character n-grams, the same in training and in serving, without scikit-learn.

Words of two letters and more, single and in pairs, and character n-grams of 3 and 4 inside word boundaries, each block
sublinear in term frequency and of unit length (Salton & Buckley, 1988), so that both count alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from weakref import WeakValueDictionary

import numpy as np

from headstart.core.arrays import Arrays

WORD = re.compile(r"\w\w+")
GRAMS = (3, 4)
Texts = Sequence[str] | np.ndarray
LONGEST = 2_000
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
    return tokens + [f"{left} {right}" for left, right in pairwise(tokens)]


def characters(text: str) -> list[str]:
    """Return character n-grams within words padded by one space, marked by a leading tab to tell them from words."""
    found = []
    for word in text.split():
        padded = f" {word} "
        for size in GRAMS:
            found += [f"\t{padded[at : at + size]}" for at in range(max(1, len(padded) - size + 1))]
    return found


def _blocks(text: str) -> Iterator[list[str]]:
    lowered = text[:LONGEST].casefold()
    yield words(lowered)
    yield characters(lowered)


def _kept(grams: np.ndarray, document: np.ndarray, rows: int) -> np.ndarray:
    """Return which n-grams count, the commonest first."""
    character = np.array([gram[0] == "\t" for gram in grams], dtype=bool)
    least = np.where(character, 3, 2) if rows >= MANY else 1
    common = character & (document > COMMON * rows) & (rows >= 50)
    kept = np.flatnonzero((document >= least) & ~common)
    return kept[np.argsort(-document[kept], kind="stable")][:LARGEST]


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
    def fit(texts: Texts) -> tuple[Vocabulary, Sparse]:
        """Choose the n-grams of training texts, and return their weights in these texts too."""
        number: dict[str, int] = {}
        parts = [
            [np.array([number.setdefault(gram, len(number)) for gram in grams], np.int64) for grams in _blocks(text)]
            for text in texts
        ]
        grams = np.array(list(number), dtype=object)
        document = np.zeros(len(number), np.int64)
        for blocks in parts:
            for block in blocks:
                document[np.unique(block)] += 1
        kept = _kept(grams, document, len(texts))
        place = np.full(len(number), -1, np.int64)
        place[kept] = np.arange(len(kept))
        idf = np.log((1 + len(texts)) / (1 + document[kept])) + 1
        vocabulary = Vocabulary(tuple(grams[kept]), idf.astype(np.float32))
        return vocabulary, vocabulary._rows([[place[block] for block in blocks] for blocks in parts])

    def weigh(self, texts: Texts) -> Sparse:
        """Return the TF-IDF weights of texts; each row has unit length where both blocks have an n-gram."""
        place = self.place
        return self._rows(
            [[np.array([place.get(gram, -1) for gram in grams], np.int64) for grams in _blocks(text)] for text in texts]
        )

    def _rows(self, texts: Sequence[Sequence[np.ndarray]]) -> Sparse:
        """Return weights from each text's blocks of feature numbers, -1 for n-grams that do not count."""
        parts = [[self._block(block[block >= 0]) for block in blocks] for blocks in texts]
        columns = [np.concatenate([block[0] for block in blocks]) for blocks in parts]
        values = [np.concatenate([block[1] for block in blocks]) for blocks in parts]
        starts = np.concatenate([[0], np.cumsum([len(each) for each in columns])]).astype(np.int64)
        if not len(texts):
            return Sparse(np.zeros(0, np.int64), np.zeros(0, np.float32), starts)
        return Sparse(np.concatenate(columns), np.concatenate(values), starts)

    def _block(self, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns, counts = np.unique(found, return_counts=True)
        values = (1 + np.log(counts)).astype(np.float32) * self.idf[columns]
        norm = float(np.sqrt((values * values).sum()))
        return columns, values * np.float32(0.5**0.5 / norm if norm else 0.0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the vocabulary as plain arrays."""
        joined = "\n".join(self.grams).encode("utf-8")
        return {"grams": np.frombuffer(joined, dtype=np.uint8), "idf": self.idf}

    @staticmethod
    def of(arrays: Arrays) -> Vocabulary:
        """Return the vocabulary of these arrays; heads with the same one share it, because it is large."""
        grams = arrays["grams"].tobytes()
        key = hashlib.blake2b(grams + arrays["idf"].tobytes(), digest_size=16).digest()
        found = _OPEN.get(key)
        if found is None:
            text = grams.decode("utf-8")
            found = _OPEN[key] = Vocabulary(tuple(text.split("\n")) if text else (), arrays["idf"])
        return found


_OPEN: WeakValueDictionary[bytes, Vocabulary] = WeakValueDictionary()


def product(sparse: Sparse, weights: np.ndarray) -> np.ndarray:
    """Return sparse rows times weights (features, width), (n, width) float32."""
    rows = len(sparse.starts) - 1
    result = np.zeros((rows, weights.shape[1]), np.float32)
    for row in range(rows):
        part = slice(sparse.starts[row], sparse.starts[row + 1])
        result[row] = sparse.values[part] @ weights[sparse.columns[part]].astype(np.float32)
    return result
