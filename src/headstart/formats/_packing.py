"""Put texts of different lengths side by side into rows of tokens, so that hardly any padding is left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from headstart.core.backbone import Network

PASS = 24
"""Tokens of padding that cost as much as one more pass through the network (measured on MiniLM)."""


@dataclass(frozen=True)
class Packed:
    """One batch of rows.

    Args:
        texts: (k,) which texts it holds.
        ids, position, segment: (rows, tokens) int32; segment is -1 where there is no token.
        starts: (k,) where each text begins in the flattened rows.
        lengths: (k,) how many tokens each has.
    """

    texts: np.ndarray
    ids: np.ndarray
    position: np.ndarray
    segment: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def assign(lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place texts into rows, best fit by decreasing length.

    Returns:
        for each text its row and its offset in the row, and for each row the tokens used. A text longer than
        `capacity` gets a row of its own.
    """
    row = np.empty(len(lengths), np.int64)
    offset = np.zeros(len(lengths), np.int64)
    used: list[int] = []
    open_rows: dict[int, list[int]] = {}
    spaces = 0  # Bit s is set where some row has s tokens left, so the tightest fit is one shift away.
    for text in np.argsort(-lengths, kind="stable"):
        length = int(lengths[text])
        fitting = spaces >> length
        if fitting and length <= capacity:
            space = (fitting & -fitting).bit_length() - 1 + length
            place = open_rows[space].pop()
            if not open_rows[space]:
                spaces &= ~(1 << space)
        else:
            space, place = max(capacity, length), len(used)
            used.append(0)
        row[text], offset[text] = place, used[place]
        used[place] += length
        left = space - length
        if left:
            open_rows.setdefault(left, []).append(place)
            spaces |= 1 << left
    return row, offset, np.array(used, np.int64)


def _apart(lengths: np.ndarray, kinds: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place texts into rows as `assign` does, those of different kinds into different rows."""
    row, offset = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.int64)
    used: list[np.ndarray] = []
    rows = 0
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        row[own], offset[own], filled = assign(lengths[own], capacity)
        row[own] += rows
        rows += len(filled)
        used.append(filled)
    return row, offset, np.concatenate(used)


def batches(
    ids: np.ndarray, lengths: np.ndarray, capacity: int, rows: int, multiple: int, kinds: np.ndarray | None = None
) -> Iterator[Packed]:
    """Yield the texts as batches of at most `rows` rows of about `capacity` tokens.

    Rows that are much shorter than the longest one of a batch go into the next.

    Args:
        ids: flat token numbers of all texts.
        lengths: (n,) tokens of each.
        capacity: tokens of a row; longer texts make longer rows.
        rows: rows of a batch at the most; rows longer than `capacity` come in smaller batches of as many tokens.
        multiple: a batch's width is rounded up to a multiple of it, so that few shapes occur.
        kinds: (n,) what kind each text is of; those of different kinds never stand in one row.
    """
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    row, offset, used = assign(lengths, capacity) if kinds is None else _apart(lengths, kinds, capacity)
    order = np.argsort(-used, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    by_place = np.argsort(place[row], kind="stable")
    ends = np.searchsorted(place[row][by_place], np.arange(len(order)), side="right")
    start = 0
    while start < len(order):
        widths = -(-used[order[start : start + rows]] // multiple) * multiple
        width = int(widths[0])
        widths = widths[: max(1, rows * capacity // max(int(used[order[start]]), capacity))]
        stop = start + int(np.searchsorted(np.cumsum(width - widths), PASS, side="right"))
        texts = by_place[(ends[start - 1] if start else 0) : ends[stop - 1]]
        yield _batch(texts, ids, lengths, first, place[row] - start, offset, (stop - start, width))
        start = stop


def _batch(
    texts: np.ndarray,
    ids: np.ndarray,
    lengths: np.ndarray,
    first: np.ndarray,
    row: np.ndarray,
    offset: np.ndarray,
    shape: tuple[int, int],
) -> Packed:
    count = lengths[texts].astype(np.int64)
    starts = row[texts] * shape[1] + offset[texts]
    position = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    to = np.repeat(starts, count) + position
    flat_ids, flat_position = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    flat_segment = np.full(shape, -1, np.int32)
    flat_ids.flat[to] = ids[np.repeat(first[texts], count) + position]
    flat_position.flat[to] = position
    flat_segment.flat[to] = np.repeat(np.arange(len(texts), dtype=np.int32), count)
    return Packed(texts, flat_ids, flat_position, flat_segment, starts, count)


def vectors(count: int, network: Network, made: Iterable[tuple[Packed, np.ndarray]]) -> np.ndarray:
    """Return the vectors of texts (count, width), of unit length where the network asks for it.

    Args:
        count: of the texts.
        network: says how its tokens' vectors become one.
        made: the batches of all texts, each with its tokens' vectors (rows, tokens, width).
    """
    embedding = np.zeros((count, network.backbone.width), np.float32)
    for packed, hidden in made:
        embedding[packed.texts] = pool(hidden, packed, network.pooling["mode"])
    return unit(embedding) if network.pooling["normalize"] else embedding


def unit(embedding: np.ndarray) -> np.ndarray:
    """Return vectors (n, width) of unit length."""
    return embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)


def pool(hidden: np.ndarray, packed: Packed, mode: str) -> np.ndarray:
    """Return one vector for each text of a batch, (k, width), from token vectors (rows, tokens, width)."""
    flat = hidden.reshape(-1, hidden.shape[-1])
    if mode == "cls":
        return flat[packed.starts]
    order = np.argsort(packed.starts, kind="stable")
    edges = np.stack([packed.starts, packed.starts + packed.lengths], axis=1)[order].ravel()
    if edges[-1] == len(flat):
        edges = edges[:-1]
    reduce = np.maximum if mode == "max" else np.add
    pooled = np.empty((len(packed.texts), flat.shape[1]), np.float32)
    pooled[order] = reduce.reduceat(flat, edges, axis=0)[::2]
    return pooled if mode == "max" else pooled / packed.lengths[:, None]
