"""Pictures with boxes in COCO's layout: one .json file for all of them."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, final

from headstart.core.errors import DataError
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources import _boxes
from headstart.sources._boxes import Marked
from headstart.sources._files import existing, named, open_bytes, reading, shown

SUFFIXES = (".json", ".json.gz")
HEAD = 1 << 18
"""Bytes that tell what a .json file is."""
PARTS = ("images", "annotations", "categories")
SAMPLE = 20
"""Pictures that are looked for to find out which folder they are in."""
ALLOWED = 'It holds {"images": [{"id", "file_name"}, …], "annotations": [{"image_id", "category_id", "bbox"}, …], '
ALLOWED += '"categories": [{"id", "name"}, …]}.'


@final
class Coco(Source):
    """A .json file of COCO annotations, one row for each picture.

    Columns: `image`; `file`; `labels`, the names of what is on it, each once, from annotations with a box or without;
    `boxes`, in pixels; and `split`, where the pictures' folders are called train, val and so on. Pictures count from
    the file's own folder, or from a folder in it or beside it.
    """

    reads = "COCO annotations in a .json file"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a .json file that begins like COCO annotations."""
        if not named(reference, SUFFIXES):
            return False
        path = Path(reference).expanduser()
        try:
            with open_bytes(path) as file:
                head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
        except (OSError, EOFError, ValueError):
            return False
        return head.startswith(b"{") and _looks_like(head)

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield one row for each picture.

        Raises:
            DataError: it is no whole JSON, or an entry lacks what it must say; the sentence names the entry.
        """
        yield from _boxes.tables(_pictures(reference), shown(reference), rows)

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Raise UsageError: annotations are only read, and never overwritten."""
        return _boxes.read_only(reference)

    def notes(self, reference: Any, options: ReadOptions) -> Mapping[str, str]:
        """Return how much is marked, and what is odd about it."""
        return _boxes.notes(_pictures(reference))


def _looks_like(head: bytes) -> bool:
    """Return whether two of the three lists are there, or entries of one that only COCO has."""
    lists = [name for name in PARTS if re.search(rb'"%s"\s*:\s*\[' % name.encode(), head)]
    own = {"images": rb'"file_name"', "annotations": rb'"image_id"', "categories": rb'"supercategory"'}
    return len(lists) > 1 or any(re.search(own[name], head) for name in lists)


def _pictures(reference: Any) -> list[Marked]:
    path = existing(reference)
    document = _document(path)
    names = {entry["id"]: str(entry["name"]) for entry in _entries(document, "categories", ("id", "name"), path)}
    images = _entries(document, "images", ("id", "file_name"), path)
    marks: dict[Any, list[tuple[str, Any]]] = defaultdict(list)
    known = {entry["id"] for entry in images}
    for number, entry in enumerate(_entries(document, "annotations", ("image_id", "category_id"), path)):
        for key, ids in (("image_id", known), ("category_id", names)):
            if entry[key] not in ids:
                raise DataError(f"annotations[{number}] of '{path}' has the {key} {entry[key]!r}, which is not there.")
        marks[entry["image_id"]].append((names[entry["category_id"]], _sides(entry.get("bbox"), number, path)))
    files = [PurePosixPath(str(entry["file_name"]).replace("\\", "/")) for entry in images]
    folder = _folder(path, files)
    found = []
    for entry, file in zip(images, files, strict=True):
        own = marks[entry["id"]]
        boxes = [_boxes.box(label, *sides) for label, sides in own if sides]
        split = _boxes.split_of(file) or _boxes.split_of(PurePosixPath(folder.name, "file"))
        labels = list(dict.fromkeys(label for label, _ in own))
        found.append(Marked(file.as_posix(), folder / file, labels, boxes, split))
    return found


def _document(path: Path) -> dict[str, Any]:
    try:
        with reading(path), open_bytes(path) as file:
            document = json.loads(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is not whole JSON: {error}.", allowed=ALLOWED) from error
    if not isinstance(document, dict):
        raise DataError(f"'{path}' holds no JSON object.", allowed=ALLOWED)
    return document


def _entries(document: Mapping[str, Any], part: str, keys: Sequence[str], path: Path) -> list[dict[str, Any]]:
    entries = document.get(part)
    if not isinstance(entries, list):
        raise DataError(f"'{path}' has no list of {part}.", allowed=ALLOWED)
    for number, entry in enumerate(entries):
        lacking = keys if not isinstance(entry, dict) else [key for key in keys if not _is_scalar(entry.get(key))]
        if lacking:
            raise DataError(f"{part}[{number}] of '{path}' has no {' and no '.join(lacking)}.", allowed=ALLOWED)
    return entries


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int))


def _sides(bbox: Any, number: int, path: Path) -> tuple[float, float, float, float] | None:
    """Return left, top, right and bottom of COCO's left, top, width and height; None where there is no box."""
    if bbox is None or bbox == []:
        return None
    if (
        not isinstance(bbox, list)
        or len(bbox) != 4
        or not all(isinstance(each, (int, float)) and math.isfinite(each) for each in bbox)
    ):
        raise DataError(
            f"annotations[{number}] of '{path}' has the bbox {str(bbox)[:60]}.",
            allowed="A bbox is [left, top, width, height] in pixels.",
        )
    left, top, width, height = bbox
    return left, top, left + width, top + height


def _folder(path: Path, files: Sequence[PurePosixPath]) -> Path:
    """Return the folder that the pictures' names count from: the file's own, or one in it or beside it."""
    some = files[:SAMPLE]
    near = [path.parent, path.parent / "images", path.parent.parent / "images"]
    for above in (path.parent, path.parent.parent):
        near += sorted(each for each in above.iterdir() if each.is_dir() and not each.name.startswith("."))
    counts = [sum((folder / file).is_file() for file in some) for folder in near]
    return near[counts.index(max(counts))]
