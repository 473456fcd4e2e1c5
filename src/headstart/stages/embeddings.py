"""Embed once: vectors are kept on disk by the content of what was embedded."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart import modalities
from headstart.core.arrays import Arrays, Session, row_count, take
from headstart.core.files import atomic_file, cache_folder
from headstart.core.modality import Modality
from headstart.core.progress import Progress
from headstart.runtime import embedded

CHUNK = 2048
"""Rows embedded at a time."""
SAVE_EVERY = 16
"""Chunks after which vectors are saved: what an interrupted run loses at most."""
KINDS = {"text": "texts", "image": "pictures", "audio": "recordings"}
LARGEST = 2_000_000_000
"""Bytes of vectors kept for all models together; the least recently used go first."""


@dataclass(frozen=True)
class Cache:
    """Vectors by content, for one network at one precision: a folder of shards that are only ever added.

    Args:
        folder: `cache/embeddings/<hash of network, engine and precision>`.
    """

    folder: Path

    @staticmethod
    def of(*identity: object) -> Cache:
        """Return the cache for whatever identifies a vector besides its text."""
        name = hashlib.blake2b(repr(identity).encode(), digest_size=12).hexdigest()
        return Cache(cache_folder() / "embeddings" / name)

    def find(self, keys: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Return vectors (n, width) float32, None where none is known, and a mask (n,) of those found."""
        vectors: np.ndarray | None = None
        found = np.zeros(len(keys), bool)
        for shard in sorted(self.folder.glob("*.npy")) if self.folder.is_dir() else []:
            try:
                table = np.load(shard, mmap_mode="r", allow_pickle=False)
                width = table.dtype["vector"].shape[0]
            except (OSError, ValueError, KeyError):
                shard.unlink(missing_ok=True)  # A shard cut short by a crash of the machine is made again.
                continue
            place = {key: row for row, key in enumerate(table["key"].tolist())}
            hits = np.array([place.get(key, -1) for key in keys.tolist()])
            fresh = (hits >= 0) & ~found
            if fresh.any():
                vectors = np.zeros((len(keys), width), np.float32) if vectors is None else vectors
                vectors[fresh] = table["vector"][hits[fresh]]
                found |= fresh
                os.utime(shard)
            if found.all():
                break
        return vectors, found

    def add(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """Save vectors (n, width) under their keys."""
        table = np.empty(len(keys), _row_type(vectors.shape[1]))
        table["key"], table["vector"] = keys, vectors
        with atomic_file(self.folder / f"{uuid.uuid4().hex}.npy") as part, part.open("wb") as file:
            np.save(file, table, allow_pickle=False)
        _evict()


def _row_type(width: int) -> np.dtype:
    return np.dtype([("key", "S16"), ("vector", np.float32, (width,))])


def _evict() -> None:
    shards = sorted((cache_folder() / "embeddings").glob("*/*.npy"), key=lambda each: each.stat().st_mtime)
    total = sum(shard.stat().st_size for shard in shards)
    for shard in shards:
        if total <= LARGEST:
            break
        total -= shard.stat().st_size
        shard.unlink(missing_ok=True)


def content_keys(contents: Sequence[str | bytes]) -> np.ndarray:
    """Return a 16-byte content hash of each text or file, (n,)."""
    # A trailing zero byte would be dropped by numpy's bytes type, so hex digits of 8 bytes are the key.
    each = (content.encode("utf-8") if isinstance(content, str) else content for content in contents)
    return np.array([hashlib.blake2b(some, digest_size=8).hexdigest() for some in each], dtype="S16")


def embed(modality: Modality, session: Session, arrays: Arrays, cache: Cache, progress: Progress) -> np.ndarray:
    """Return vectors (n, width) of what `modality.prepare` gave, running the network only for unknown contents."""
    rows = row_count(arrays)
    contents = modality.contents(arrays)
    sizes = np.array([len(each) for each in contents])
    keys, first, inverse = np.unique(content_keys(contents), return_index=True, return_inverse=True)
    del contents
    vectors, found = cache.find(keys)
    missing = np.flatnonzero(~found)
    # Sorting by length keeps the packed rows tight in each chunk.
    missing = missing[np.argsort(sizes[first[missing]], kind="stable")]
    chunk = min(CHUNK, 4 * modality.at_once)
    with progress.bar("embedding", len(missing)) as bar:
        unsaved: list[np.ndarray] = []
        for start in range(0, len(missing), chunk):
            some = missing[start : start + chunk]
            made = embedded(modality, session, take(arrays, first[some]))
            vectors = np.zeros((len(keys), made.shape[1]), np.float32) if vectors is None else vectors
            vectors[some] = made
            unsaved.append(some)
            bar.advance(len(some))
            if len(unsaved) == SAVE_EVERY or start + chunk >= len(missing):
                added = np.concatenate(unsaved)
                cache.add(keys[added], vectors[added])
                unsaved = []
    known, kind = rows - len(missing), KINDS.get(modalities.name_of(modality), "cells")
    progress.say(f"embedded {len(missing):,} {kind}; {known:,} of {rows:,} were known already")
    return vectors[inverse] if vectors is not None else np.zeros((0, 0), np.float32)
