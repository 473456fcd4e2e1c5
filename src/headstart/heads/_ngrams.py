"""TF-IDF weights of word and character n-grams, the same in training and in serving, without scikit-learn.

Words of two letters and more, single and in pairs, and character n-grams of 3 and 4 inside word boundaries, each block
sublinear in term frequency and of unit length (Salton & Buckley, 1988), so that both count alike.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, pairwise, repeat
from weakref import WeakValueDictionary

import numpy as np

from headstart.core.arrays import Arrays

WORD = re.compile(r"\w\w+")
GRAMS = (3, 4)
BLOCKS = 2
"""Blocks of a text: its words, and its characters."""
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


def characters(word: str) -> list[str]:
    """Return character n-grams of a word padded by one space, marked by a leading tab to tell them from words."""
    padded = f" {word} "
    return [f"\t{padded[at : at + size]}" for size in GRAMS for at in range(max(1, len(padded) - size + 1))]


@dataclass(frozen=True)
class Found:
    """The n-grams of texts, flat: `grams` (m,) are their numbers, and `blocks` (m,) say whose they are.

    Block 2 i is of the words of text i, and block 2 i + 1 of its characters.
    """

    grams: np.ndarray
    blocks: np.ndarray
    texts: int


def _flat(texts: Texts, numbers: Callable[[Sequence[str]], Iterable[int]]) -> Found:
    grams: list[int] = []
    lengths: list[int] = []
    # Most words of many texts are the same few.
    pieces: dict[str, list[int]] = {}
    for text in texts:
        lowered = text[:LONGEST].casefold()
        before = len(grams)
        grams += numbers(words(lowered))
        between = len(grams)
        for word in lowered.split():
            found = pieces.get(word)
            if found is None:
                found = pieces[word] = list(numbers(characters(word)))
            grams += found
        lengths += [between - before, len(grams) - between]
    return Found(np.array(grams, np.int64), np.repeat(np.arange(len(lengths)), lengths), len(texts))


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Return where each run of equal numbers begins."""
    new = np.empty(len(ordered), bool)
    new[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.flatnonzero(new)


def _lengths(starts: np.ndarray, end: int) -> np.ndarray:
    """Return how long each run is."""
    lengths = np.empty(len(starts), np.int64)
    lengths[:-1] = starts[1:] - starts[:-1]
    lengths[-1:] = end - starts[-1:]
    return lengths


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
        number: defaultdict[str, int] = defaultdict(count().__next__)
        found = _flat(texts, lambda block: map(number.__getitem__, block))
        grams = np.array(list(number), dtype=object)
        many = max(1, len(number))
        keys = np.sort(found.blocks * many + found.grams)
        document = np.bincount(keys[_starts(keys)] % many, minlength=len(number))
        kept = _kept(grams, document, len(texts))
        place = np.full(len(number), -1, np.int64)
        place[kept] = np.arange(len(kept))
        idf = np.log((1 + len(texts)) / (1 + document[kept])) + 1
        vocabulary = Vocabulary(tuple(grams[kept]), idf.astype(np.float32))
        return vocabulary, vocabulary._rows(replace(found, grams=place[found.grams]))

    def weigh(self, texts: Texts) -> Sparse:
        """Return the TF-IDF weights of texts; each row has unit length where both blocks have an n-gram."""
        place = self.place
        return self._rows(_flat(texts, lambda block: map(place.get, block, repeat(-1))))

    def _rows(self, found: Found) -> Sparse:
        """Return weights from feature numbers, -1 for n-grams that do not count."""
        counts = found.grams >= 0
        many = max(1, len(self.grams))
        keys = found.blocks[counts] * many + found.grams[counts]
        keys.sort()
        new = _starts(keys)
        columns, blocks = keys[new] % many, keys[new] // many
        values = (1 + np.log(_lengths(new, len(keys)))).astype(np.float32) * self.idf[columns]
        first = _starts(blocks)
        if len(first):
            # A block's sum is over its own numbers alone, so a text weighs the same whatever stands beside it.
            norms = np.sqrt(np.add.reduceat(values * values, first))
            values *= np.repeat(np.float32(0.5**0.5) / norms, _lengths(first, len(values)))
        starts = np.searchsorted(blocks, np.arange(0, BLOCKS * found.texts + 1, BLOCKS)).astype(np.int64)
        return Sparse(columns, values, starts)

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
