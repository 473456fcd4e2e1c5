"""Find near duplicates, so that a row and its twin never stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHINGLE = 5
"""Characters of a shingle."""
HASHES = 64
BAND = 2
"""Hashes of a band: 32 bands of 2 propose a pair of Jaccard similarity .4 with a chance of .996."""
SIMILAR_LONG, SIMILAR_SHORT, LONG = 0.45, 0.65, 200
"""Share of equal hashes (an estimate of Jaccard similarity, Broder 1997) from which two texts are twins: the first for
texts of `LONG` characters or more, the second for shorter ones, where a few common words make strangers alike."""
WIDEST = 400
"""Most rows of a bucket that are compared; larger ones come from boilerplate and would cost a square."""
LETTERS = 4_000
"""Characters of a text that are looked at."""
CHUNK = 20_000_000
"""Characters that are hashed at a time."""


def groups(texts: Sequence[str]) -> np.ndarray:
    """Return a group number for each text, (n,); texts that are equal or nearly so share one.

    MinHash over character shingles of the lower-cased text without punctuation, in time and memory linear in the
    characters. Twins of twins are in one group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    cleaned = [_clean(text) for text in texts]
    unique, inverse = np.unique(np.array(cleaned, dtype=object).astype(str), return_inverse=True)
    signature = _signatures([str(text) for text in unique])
    long = np.array([len(text) >= LONG for text in unique], dtype=bool)
    left, right = _pairs(signature, np.where(long, SIMILAR_LONG, SIMILAR_SHORT))
    size = len(unique)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(size, size))
    _, number = connected_components(graph, directed=False)
    return number[inverse].astype(np.int64)


def _clean(text: str) -> str:
    kept = "".join(letter if letter.isalnum() else " " for letter in text[:LETTERS].casefold())
    return " ".join(kept.split())


def _signatures(texts: Sequence[str]) -> np.ndarray:
    """Return MinHash signatures (n, HASHES) uint32."""
    rng = np.random.default_rng(20240)
    factors = rng.integers(1, 2**63, size=HASHES, dtype=np.uint64) | np.uint64(1)
    shifts = rng.integers(0, 2**63, size=HASHES, dtype=np.uint64)
    parts = []
    for some in _chunks(texts):
        shingles, starts = _shingles(some)
        part = np.empty((len(some), HASHES), np.uint32)
        for each in range(HASHES):
            mixed = ((shingles * factors[each] + shifts[each]) >> np.uint64(32)).astype(np.uint32)
            part[:, each] = np.minimum.reduceat(mixed, starts)
        parts.append(part)
    return np.concatenate(parts) if parts else np.zeros((0, HASHES), np.uint32)


def _chunks(texts: Sequence[str]) -> list[list[str]]:
    chunks: list[list[str]] = []
    room = 0
    for text in texts:
        if room < len(text) or not chunks:
            chunks.append([])
            room = CHUNK
        chunks[-1].append(text)
        room -= len(text)
    return chunks


def _shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the 64-bit hashes of all shingles, flat, and where each text's begin; none crosses two texts."""
    padded = [text.ljust(SHINGLE, "\x00") for text in texts]
    letters = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded])
    hashed = np.zeros(len(letters) - SHINGLE + 1, np.uint64)
    for each in range(SHINGLE):
        hashed = (hashed ^ letters[each : each + len(hashed)]) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    ends = np.cumsum(lengths)
    inside = np.ones(len(hashed), bool)
    for back in range(1, SHINGLE):
        crossing = ends[:-1] - back
        inside[crossing[crossing < len(hashed)]] = False
    counts = lengths - SHINGLE + 1
    return hashed[inside], np.cumsum(counts) - counts


def _pairs(signature: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rows whose signatures are similar enough for both, each found in a common band."""
    lefts, rights = [], []
    for start in range(0, HASHES, BAND):
        key = signature[:, start].astype(np.uint64) << np.uint64(32) | signature[:, start + 1].astype(np.uint64)
        order = np.argsort(key, kind="stable")
        ranked = key[order]
        # Within a run of equal keys, comparing rows at growing distances finds every pair of the run.
        alive = np.arange(len(ranked) - 1)
        for distance in range(1, WIDEST):
            alive = alive[alive + distance < len(ranked)]
            alive = alive[ranked[alive] == ranked[alive + distance]]
            if len(alive) == 0:
                break
            left, right = order[alive], order[alive + distance]
            same = np.zeros(len(left), np.float32)
            for block in range(0, len(left), 100_000):
                some = slice(block, block + 100_000)
                same[some] = (signature[left[some]] == signature[right[some]]).mean(axis=1)
            twins = same >= np.maximum(least[left], least[right])
            lefts.append(left[twins])
            rights.append(right[twins])
    if not lefts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(lefts), np.concatenate(rights)
