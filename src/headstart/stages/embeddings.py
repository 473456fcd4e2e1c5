"""Embed once: vectors are kept on disk by the content of what was embedded."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.core.arrays import Session
from headstart.core.files import atomic_file, cache_folder
from headstart.core.modality import Modality
from headstart.core.progress import Progress

CHUNK = 2048
"""Rows embedded, and then saved, at a time: what an interrupted run loses at most is the last 16 of them."""
SAVE_EVERY = 16
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

    def find(self, keys: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors (n, width) float32 and a mask (n,) of those found."""
        vectors, found = np.zeros((len(keys), width), np.float32), np.zeros(len(keys), bool)
        for shard in sorted(self.folder.glob("*.npy")) if self.folder.is_dir() else []:
            try:
                table = np.load(shard, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError):
                shard.unlink(missing_ok=True)  # A shard cut short by a crash of the machine is made again.
                continue
            if table.dtype != _row_type(width):
                continue
            place = {key: row for row, key in enumerate(table["key"].tolist())}
            hits = np.array([place.get(key, -1) for key in keys.tolist()])
            fresh = (hits >= 0) & ~found
            if fresh.any():
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


def content_keys(texts: Sequence[str]) -> np.ndarray:
    """Return a 16-byte content hash of each text, (n,)."""
    # A trailing zero byte would be dropped by numpy's bytes type, so hex digits of 8 bytes are the key.
    return np.array([hashlib.blake2b(t.encode("utf-8"), digest_size=8).hexdigest() for t in texts], dtype="S16")


def embed(
    modality: Modality, session: Session, texts: np.ndarray, width: int, cache: Cache, progress: Progress
) -> np.ndarray:
    """Return vectors (n, width) of texts (n,), running the network only for contents that are not in the cache."""
    keys, first, inverse = np.unique(content_keys(list(texts)), return_index=True, return_inverse=True)
    vectors, found = cache.find(keys, width)
    missing = np.flatnonzero(~found)
    if len(missing):
        # Sorting by length keeps the packed rows tight in each chunk.
        missing = missing[np.argsort([len(texts[first[each]]) for each in missing], kind="stable")]
        with progress.bar("embedding", len(missing)) as bar:
            unsaved: list[np.ndarray] = []
            for start in range(0, len(missing), CHUNK):
                some = missing[start : start + CHUNK]
                arrays = modality.encode({"text": texts[first[some]]})
                vectors[some] = session.run(arrays)["embedding"]
                unsaved.append(some)
                bar.advance(len(some))
                if len(unsaved) == SAVE_EVERY or start + CHUNK >= len(missing):
                    rows = np.concatenate(unsaved)
                    cache.add(keys[rows], vectors[rows])
                    unsaved = []
    progress.say(f"embedded {len(missing):,} texts; {len(texts) - len(missing):,} of {len(texts):,} were known already")
    return vectors[inverse]
