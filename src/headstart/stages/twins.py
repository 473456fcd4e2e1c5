"""Find near duplicates, so that a row and its twin never stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.stages.language import language

SHINGLE = 5
"""Characters of a shingle."""
HASHES = 128
BAND = 2
"""Hashes of a band: 64 bands of 2 propose a pair of Jaccard similarity .35 with a chance of .9998."""
SIMILAR_LONG, SIMILAR_SHORT, LONG = 0.35, 0.65, 200
"""Share of equal hashes (an estimate of Jaccard similarity, Broder 1997) from which two texts are twins: the first for
texts of `LONG` characters or more, the second for shorter ones, where a few common words make strangers alike."""
TRANSLATED, SURELY, ENOUGH = 0.08, 0.12, 0.15
"""Two languages hold translations of each other where a share `ENOUGH` of the rows of the rarer one have a mutual
nearest neighbour of TF-IDF cosine `SURELY`; then those from `TRANSLATED` on are taken for translations."""
MOST_TRANSLATED = 20_000
"""Texts up to which translations are looked for; it takes the square of them."""
ALIKE = 0.98
"""Correlation of two small grey copies from which two pictures are twins. On real photos strangers seldom reach it
(0.4 % of garments and of chest radiographs), and 99 % of those that do carry the same label (magnetic tiles)."""
MOST_COMPARED, BLOCK = 50_000, 2_048
"""Pictures up to which all pairs are compared, and how many at a time."""
WIDEST = 400
"""Most rows of a bucket that are compared; larger ones come from boilerplate and would cost a square."""
LETTERS = 4_000
"""Characters of a text that are looked at."""
PAIRS = 20_000
"""Pairs that are compared at a time: their hashes then stay in the processor's cache."""
CHUNK = 20_000_000
"""Characters that are hashed at a time."""


def same(rows: Sequence[str]) -> np.ndarray:
    """Return a group number for each row, (n,); only equal rows share one."""
    return np.unique(np.array(rows, dtype=str), return_inverse=True)[1].astype(np.int64)


def merged(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return group numbers (n,) in which rows that share a group in any of the parts are together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(parts) == 1:
        return parts[0]
    rows = len(parts[0])
    firsts = [np.unique(part, return_index=True, return_inverse=True)[1:] for part in parts]
    right = np.concatenate([first[inverse] for first, inverse in firsts])
    left = np.tile(np.arange(rows), len(parts))
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(rows, rows))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def near(signatures: np.ndarray) -> np.ndarray:
    """Return group numbers (n,) of unit vectors (n, d): those whose product is `ALIKE` or more share one.

    All pairs are compared, block by block; above `MOST_COMPARED` rows only equal vectors are found.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    unique, inverse = np.unique(signatures, axis=0, return_inverse=True)
    rows = len(unique)
    if rows > MOST_COMPARED:
        return inverse.ravel().astype(np.int64)
    lefts, rights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, rows, BLOCK):
        left, right = np.nonzero(unique[start : start + BLOCK] @ unique.T >= ALIKE)
        lefts.append(left + start)
        rights.append(right)
    left, right = np.concatenate(lefts), np.concatenate(rights)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(rows, rows))
    return connected_components(graph, directed=False)[1][inverse.ravel()].astype(np.int64)


def groups(texts: Sequence[str]) -> np.ndarray:
    """Return a group number for each text, (n,); texts that are equal, nearly so, or translations share one.

    Near equals are found by MinHash over character shingles of the lower-cased text without punctuation, in time and
    memory linear in the characters. Twins of twins are in one group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    cleaned = [_clean(text) for text in texts]
    unique, inverse = np.unique(np.array(cleaned, dtype=object).astype(str), return_inverse=True)
    signature = _signatures([str(text) for text in unique])
    long = np.array([len(text) >= LONG for text in unique], dtype=bool)
    left, right = _pairs(signature, np.where(long, SIMILAR_LONG, SIMILAR_SHORT))
    size = len(unique)
    # A translation is recognised by its wording, which cleaning has not touched but in which case matters.
    first = np.unique(inverse, return_index=True)[1]
    here, there = translations([texts[row] for row in first])
    left, right = np.concatenate([left, here]), np.concatenate([right, there])
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(size, size))
    _, number = connected_components(graph, directed=False)
    return number[inverse].astype(np.int64)


def translations(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of texts of two languages that are each other's nearest neighbour by shared n-grams.

    Names, numbers and cognates survive translation. A table of translated tickets would otherwise put a ticket in the
    training rows and its translation in the test rows.
    """
    from scipy.sparse import csr_array

    from headstart.heads._ngrams import Vocabulary

    lefts, rights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    if len(texts) > MOST_TRANSLATED:
        return lefts[0], rights[0]
    codes = np.array([language(text) for text in texts])
    found, counts = np.unique(codes[codes != ""], return_counts=True)
    spoken = [code for code, count in zip(found, counts, strict=True) if count >= max(5, 0.03 * len(texts))]
    if len(spoken) < 2:
        return lefts[0], rights[0]
    vocabulary, sparse = Vocabulary.fit(texts)
    matrix = csr_array((sparse.values, sparse.columns, sparse.starts), shape=(len(texts), len(vocabulary.grams)))
    rows = {code: np.flatnonzero(codes == code) for code in spoken}
    for one, code in enumerate(spoken):
        for other in spoken[one + 1 :]:
            near = (matrix[rows[code]] @ matrix[rows[other]].T).toarray()
            best = near.argmax(axis=1)
            mutual = near.argmax(axis=0)[best] == np.arange(len(best))
            closeness = near.max(axis=1)
            if (mutual & (closeness >= SURELY)).sum() < ENOUGH * min(near.shape):
                continue
            twin = mutual & (closeness >= TRANSLATED)
            lefts.append(rows[code][twin])
            rights.append(rows[other][best[twin]])
    return np.concatenate(lefts), np.concatenate(rights)


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


def _alike(
    halves: Sequence[np.ndarray], least: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return those pairs of which enough hashes are equal; the second half is compared where the first may do."""
    wanted = HASHES * np.maximum(least[left], least[right])
    same = np.count_nonzero(halves[0][left] == halves[0][right], axis=1)
    may = np.flatnonzero(same + halves[1].shape[1] >= wanted)
    left, right = left[may], right[may]
    enough = same[may] + np.count_nonzero(halves[1][left] == halves[1][right], axis=1) >= wanted[may]
    return left[enough], right[enough]


def _pairs(signature: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rows whose signatures are similar enough for both, each found in a common band."""
    lefts, rights = [], []
    halves = [np.ascontiguousarray(each) for each in np.split(signature, 2, axis=1)]
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
            for block in range(0, len(left), PAIRS):
                twins = _alike(halves, least, left[block : block + PAIRS], right[block : block + PAIRS])
                lefts.append(twins[0])
                rights.append(twins[1])
    if not lefts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(lefts), np.concatenate(rights)
