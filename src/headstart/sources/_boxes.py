"""Pictures with marked boxes: what the COCO, Pascal VOC and YOLO sources share (no source itself)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, final

from headstart.core.blob import Blob
from headstart.core.errors import DataError, UsageError, listed
from headstart.core.source import Table, TableWriter
from headstart.sources._files import reading, shown
from headstart.sources._media import KINDS, SPLITS

PICTURES = KINDS["image"]
LOOKED_AT, SUBFOLDERS, HEAD = 1_000, 20, 1 << 16
"""Entries of a folder, folders in it, and bytes of a file that are looked at to find out what it is."""
LONGEST = 10 << 20
"""Bytes that one file of annotations may have."""
CLASS_FILES = ("classes.txt", "obj.names", "labels/classes.txt")


@final
@dataclass(frozen=True)
class Marked:
    """A picture with what is marked on it.

    Args:
        name: its path within the data set.
        path: where it is.
        labels: what is on it, each once; rows have them sorted.
        boxes: `{"label": …, "box": [left, top, right, bottom]}` in pixels.
        split: `train`, `val` and so on, where the data set says it.
        told: the file that says so, for sentences.
    """

    name: str
    path: Path
    labels: Sequence[str]
    boxes: Sequence[Mapping[str, Any]]
    split: str = ""
    told: str = ""


def box(label: str, left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    """Return a box as it stands in a cell; whole pixels are whole numbers."""
    sides = [round(each, 2) for each in (left, top, right, bottom)]
    return {"label": label, "box": [int(each) if float(each).is_integer() else each for each in sides]}


def tables(pictures: Sequence[Marked], origin: str, rows: int) -> Iterator[Table]:
    """Yield one row for each picture: `image`, `file`, `labels`, `boxes`, and `split` where some are known.

    Raises:
        DataError: there are none.
    """
    if not pictures:
        raise DataError(
            f"There are no pictures with annotations in {origin}.", allowed=f"Pictures end in {listed(PICTURES, 20)}."
        )
    split = any(each.split for each in pictures)
    for start in range(0, len(pictures), rows):
        some = pictures[start : start + rows]
        table: Table = {
            "image": [Blob.of_file(each.path, each.name) for each in some],
            "file": [each.name for each in some],
            "labels": [sorted(each.labels) for each in some],
            "boxes": [list(each.boxes) for each in some],
        }
        if split:
            table["split"] = [each.split or None for each in some]
        yield table


def notes(pictures: Sequence[Marked]) -> dict[str, str]:
    """Return how much is marked, and which boxes have no area; those are kept as they are."""
    boxes = sum(len(each.boxes) for each in pictures)
    labels = {label for each in pictures for label in each.labels}
    found = {"annotations": f"{len(pictures):,} pictures, {boxes:,} boxes, {len(labels):,} labels"}
    flat = [each.told or each.name for each in pictures for marked in each.boxes if _flat(marked["box"])]
    if flat:
        found["boxes without an area"] = f"{len(flat):,}, kept as they are, in {listed(dict.fromkeys(flat), 5)}"
    return found


def _flat(sides: Sequence[float]) -> bool:
    return sides[2] <= sides[0] or sides[3] <= sides[1]


def read_only(reference: Any) -> AbstractContextManager[TableWriter]:
    """Raise UsageError: annotations are only read."""
    raise UsageError(f"{shown(reference)} holds annotations of pictures, which are only read.", hint="Such as out.csv.")


def content(path: Path) -> bytes:
    """Return the bytes of a small file.

    Raises:
        DataError: it cannot be read, or is longer than `LONGEST`.
    """
    with reading(path):
        if path.stat().st_size > LONGEST:
            raise DataError(f"'{path}' is longer than {LONGEST >> 20} MB.", allowed="It describes one picture.")
        return path.read_bytes()


def files(root: Path) -> list[Path]:
    """Return the files below a folder, relative to it and sorted, without hidden ones."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(folder).relative_to(root)
        found += [here / name for name in names if not name.startswith(".")]
    return sorted(found)


def split_of(name: PurePosixPath | Path) -> str:
    """Return the folder of a path that says which part of the data it belongs to, or an empty text."""
    return next((part for part in name.parts[:-1] if part.casefold() in SPLITS), "")


def layout(reference: Any) -> str:
    """Return `voc` or `yolo` where a folder holds such a data set, else an empty text; a few entries are looked at."""
    if not isinstance(reference, (str, os.PathLike)):
        return ""
    root = Path(reference).expanduser()
    try:
        if not root.is_dir():
            return ""
        places = [root, *sorted(each for each in _entries(root) if each.is_dir())[:SUBFOLDERS]]
        if any(_annotated(place) for place in places):
            return "voc"
        return "yolo" if class_file(root) and any(_labelled(place) for place in places) else ""
    except (OSError, ValueError):
        return ""


def _entries(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(each.path) for each in islice(entries, LOOKED_AT) if not each.name.startswith(".")]


def _annotated(folder: Path) -> bool:
    some = sorted(each for each in _entries(folder) if each.suffix.lower() == ".xml" and each.is_file())[:3]
    return any(b"<annotation" in _head(each).replace(b"\0", b"") for each in some)  # of UTF-16 every other byte is 0


def _labelled(folder: Path) -> bool:
    if (folder / "labels").is_dir() or folder.name == "labels":
        return True
    entries = _entries(folder)
    texts = {each.stem for each in entries if each.suffix == ".txt"}
    return any(each.stem in texts for each in entries if each.suffix.lower() in PICTURES)


def class_file(root: Path) -> Path | None:
    """Return the file that names the classes of a YOLO data set: a .yaml file with `names`, or a list of lines."""
    described = sorted(each for each in _entries(root) if each.suffix.lower() in (".yaml", ".yml") and each.is_file())
    found = [each for each in described if b"names" in _head(each)]
    found += [root / name for name in CLASS_FILES if (root / name).is_file()]
    return found[0] if found else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)
