"""Pictures and recordings in folders and archives: which files there are, and their classes (no source itself)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from headstart.core.blob import Blob
from headstart.core.source import Table

KINDS = {
    "image": (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".jfif", ".ppm", ".pgm"),
    "audio": (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au"),
}
"""How files of each kind end."""
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
"""Folders that say which part of the data a file belongs to, not what it shows."""


def kind_of_files(names: Sequence[PurePosixPath]) -> str:
    """Return `image`, `audio`, or an empty text where files of neither kind are there; the more numerous kind wins."""
    counts = {kind: sum(name.suffix.lower() in suffixes for name in names) for kind, suffixes in KINDS.items()}
    best = max(counts, key=lambda kind: counts[kind])
    return best if counts[best] else ""


def tables(files: Sequence[tuple[PurePosixPath, Blob]], kind: str, rows: int) -> Iterator[Table]:
    """Yield one row for each file of a kind: `image` or `audio`, `file`, and what its folders say.

    `label` is the name of the innermost folder, where there are several. Where the outermost folders are called
    train, test and so on, `split` is their name and they give no label.
    """
    some = [(name, blob) for name, blob in files if name.suffix.lower() in KINDS[kind]]
    shared = _shared([name for name, _ in some])
    folders = [name.parts[shared:-1] for name, _ in some]
    split = any(parts and parts[0].casefold() in SPLITS for parts in folders)
    if split:
        heads = [parts[0] if parts and parts[0].casefold() in SPLITS else None for parts in folders]
        folders = [parts[1:] if head else parts for parts, head in zip(folders, heads, strict=True)]
    labelled = len({parts[-1] for parts in folders if parts}) > 1
    for start in range(0, len(some), rows):
        part = slice(start, start + rows)
        table: Table = {
            kind: [blob for _, blob in some[part]],
            "file": [name.as_posix() for name, _ in some[part]],
        }
        if labelled:
            table["label"] = [parts[-1] if parts else None for parts in folders[part]]
        if split:
            table["split"] = heads[part]
        yield table


def _shared(names: Sequence[PurePosixPath]) -> int:
    """Return how many outer folders all files share, which say nothing."""
    shared = 0
    while len({name.parts[shared] for name in names if len(name.parts) > shared + 1}) == 1 and all(
        len(name.parts) > shared + 1 for name in names
    ):
        shared += 1
    return shared
