"""Pictures with boxes in YOLO's layout: one .txt file of normalised boxes for each picture."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, final

from headstart.core.errors import DataError, listed
from headstart.core.registry import require
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources import _boxes
from headstart.sources._boxes import PICTURES, Marked
from headstart.sources._files import shown

NAMES = re.compile(r"^names[ \t]*:[ \t]*(.*)$", re.MULTILINE)
POINTS = re.compile(r"^kpt_shape[ \t]*:", re.MULTILINE)
ITEM = re.compile(r"""\s*(?:(\d+)\s*:\s*)?("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,\[\]{}]*?)\s*(?:,|$)""")
LINE = "A line is: class centre_x centre_y width height, the last four from 0 to 1; or a class and a polygon."


@final
class Yolo(Source):
    """A folder with `images`, `labels` and a data.yaml or classes.txt (YOLO), one row for each picture.

    Columns: `image`; `file`; `labels`, the names of what is marked, each once; `boxes`, in pixels; and `split`, where
    folders called train, val and so on say it. A picture without a .txt file has nothing on it. Polygons are read as
    the boxes around them. Paths in data.yaml are not followed.
    """

    reads = "a folder in YOLO's layout"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a folder with class names and with labels beside pictures."""
        return _boxes.layout(reference) == "yolo"

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield one row for each picture.

        Raises:
            DataError: a line of a .txt file is no box, or its class has no name; the sentence names it.
        """
        yield from _boxes.tables(_pictures(reference), shown(reference), rows)

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Raise UsageError: annotations are only read."""
        return _boxes.read_only(reference)

    def notes(self, reference: Any, options: ReadOptions) -> Mapping[str, str]:
        """Return how much is marked, and what is odd about it."""
        return _boxes.notes(_pictures(reference))


def _pictures(reference: Any) -> list[Marked]:
    root = Path(reference).expanduser()
    described = _boxes.class_file(root)
    if described is None:
        raise DataError(f"{shown(reference)} has no data.yaml or classes.txt that names the classes.")
    text = _boxes.content(described).decode("utf-8-sig", "replace")
    listing = described.suffix.lower() in (".yaml", ".yml")
    names = class_names(text, described) if listing else [line.strip() for line in text.splitlines() if line.strip()]
    posed = listing and POINTS.search(text) is not None
    files = _boxes.files(root)
    texts = {file for file in files if file.suffix == ".txt"}
    found = []
    for file in files:
        if file.suffix.lower() not in PICTURES:
            continue
        said = next((each for each in _beside(file) if each in texts), None)
        if said or "images" in file.parts[:-1]:
            found.append(_marked(root, file, said, names, posed))
    return found


def _beside(picture: Path) -> list[Path]:
    """Return where the labels of a picture may be: `images` is `labels` in their path, or they lie beside it."""
    own = picture.with_suffix(".txt")
    parts = list(own.parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            return [Path(*parts[:at], "labels", *parts[at + 1 :]), own]
    return [own, own.parent / "labels" / own.name, Path("labels", *parts)]


def _marked(root: Path, file: Path, said: Path | None, names: Sequence[str], posed: bool) -> Marked:
    lines = _boxes.content(root / said).decode("utf-8", "replace").splitlines() if said else []
    sized = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    width, height = _size(root / file) if sized else (0, 0)
    boxes = []
    for number, parts in sized:
        label, left, top, right, bottom = _box(parts, f"Line {number} of '{root / (said or '')}'", names, posed)
        boxes.append(_boxes.box(label, left * width, top * height, right * width, bottom * height))
    labels = list(dict.fromkeys(each["label"] for each in boxes))
    told = said.as_posix() if said else ""
    # Of a picture that cannot be opened the boxes' pixels are not known.
    return Marked(file.as_posix(), root / file, labels, boxes if width else [], _boxes.split_of(file), told)


def _size(path: Path) -> tuple[int, int]:
    image = require("PIL.Image", "image")
    try:
        with image.open(path) as picture:
            return int(picture.width), int(picture.height)
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError):
        return 0, 0


def _box(parts: Sequence[str], where: str, names: Sequence[str], posed: bool) -> tuple[str, float, float, float, float]:
    """Return a line's label, and left, top, right and bottom from 0 to 1."""
    try:
        number, *values = map(float, parts)
    except ValueError:
        number, values = math.nan, []
    if not number.is_integer() or len(values) < 4 or not all(map(math.isfinite, values)):
        raise DataError(f"{where} is no box: '{' '.join(parts)[:60]}'.", allowed=LINE)
    if not 0 <= number < len(names):
        raise DataError(
            f"{where} has the class {number:.0f}, which has no name.",
            allowed=f"Classes are 0 to {len(names) - 1}: {listed(names)}.",
        )
    label = names[int(number)]
    if len(values) >= 6 and len(values) % 2 == 0 and not posed:
        across, down = values[::2], values[1::2]
        return label, min(across), min(down), max(across), max(down)
    x, y, width, height = values[:4]
    return label, x - width / 2, y - height / 2, x + width / 2, y + height / 2


def class_names(text: str, path: Path) -> list[str]:
    """Return what `names` of a data.yaml lists: a list, or numbers with names, on one line or on several.

    Raises:
        DataError: it is written in another way.
    """
    found = NAMES.search(text)
    first = found[1].strip() if found else ""
    pairs: list[tuple[str | None, str]] = []
    if found and first[:1] in ("[", "{"):
        closing = "]" if first[0] == "[" else "}"
        inner, ended, _ = re.sub(r"\s#.*", "", text[found.start(1) :]).strip()[1:].partition(closing)
        pairs = [(each[1], each[2]) for each in ITEM.finditer(inner) if each[2]] if ended else []
    elif found and not first.partition("#")[0]:
        pairs = list(_lines(text[found.end() :]))
    names = [_unquoted(name) for _, name in pairs]
    numbers = [int(number) for number, _ in pairs if number is not None]
    if numbers:
        by_number = dict(zip(numbers, names, strict=False))
        names = [by_number.get(each, str(each)) for each in range(max(numbers) + 1)] if max(numbers) < 100_000 else []
    if not names or (numbers and len(numbers) != len(pairs)):
        raise DataError(
            f"The names of the classes in '{path}' cannot be read.",
            allowed="They are written as names: [cat, dog], or one a line: '- cat', or '0: cat'.",
            hint="Or write them one a line into a file classes.txt, and remove that one.",
        )
    return names


def _lines(text: str) -> Iterator[tuple[str | None, str]]:
    """Yield number and name of the indented or dashed lines that follow."""
    for line in text.splitlines():
        written = re.sub(r"(^|\s)#.*", "", line).strip()
        if not written:
            continue
        item = re.fullmatch(r"-\s+(.+)|(\d+)\s*:\s*(.+)", written)
        if not item or not line.startswith((" ", "\t", "-")):
            return
        yield item[2], item[1] or item[3]


def _unquoted(name: str) -> str:
    return name[1:-1].replace("''", "'") if len(name) > 1 and name[0] in "'\"" and name[-1] == name[0] else name
