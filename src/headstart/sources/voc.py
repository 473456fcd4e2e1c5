"""Pictures with boxes in Pascal VOC's layout: one .xml file for each picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from headstart.core.errors import DataError
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources import _boxes
from headstart.sources._boxes import PICTURES, Marked
from headstart.sources._files import shown
from headstart.sources._media import SPLITS

SIDES = ("xmin", "ymin", "xmax", "ymax")


@final
class Voc(Source):
    """A folder of pictures and .xml annotations (Pascal VOC), one row for each annotation.

    Columns: `image`; `file`; `labels`, the names of what is marked, each once; `boxes`, in pixels; and `split`, where
    ImageSets/Main or folders called train, val and so on say it. Pictures may lie beside the .xml files or elsewhere
    in the folder. A document type, which can make a reader open other files, is refused.
    """

    reads = "a folder in Pascal VOC's layout"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a folder with annotations in .xml files."""
        return _boxes.layout(reference) == "voc"

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield one row for each annotated picture.

        Raises:
            DataError: an .xml file is broken, or lacks what it must say; the sentence names it.
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
    files = _boxes.files(root)
    known: dict[str, list[Path]] = defaultdict(list)
    for each in files:
        if each.suffix.lower() in PICTURES:
            known[each.name.casefold()].append(each)
            known[each.stem.casefold()].append(each)
    splits = _splits(root)
    found = []
    for file in files:
        if file.suffix.lower() == ".xml":
            tree = _tree(root / file)
            if tree.tag == "annotation":
                found.append(_marked(root, file, tree, known, splits))
    return found


def _marked(
    root: Path, file: Path, tree: Element, known: Mapping[str, Sequence[Path]], splits: Mapping[str, str]
) -> Marked:
    # Programs that mark pictures often write the name that the picture had on another machine.
    named = PurePosixPath((tree.findtext("filename") or file.stem).strip().replace("\\", "/")).name
    places = known.get(named.casefold()) or known.get(file.stem.casefold()) or known.get(Path(named).stem.casefold())
    place = max(places, key=lambda each: _shared(each, file)) if places else file.with_name(named)
    boxes = [_box(root / file, number, each) for number, each in enumerate(tree.findall("object"), start=1)]
    labels = list(dict.fromkeys(each["label"] for each in boxes))
    split = splits.get(file.stem) or _boxes.split_of(place)
    return Marked(place.as_posix(), root / place, labels, boxes, split, file.as_posix())


def _shared(one: Path, other: Path) -> int:
    """Return how many outer folders two paths share."""
    pairs = zip(one.parts[:-1], other.parts[:-1], strict=False)
    return next((depth for depth, (a, b) in enumerate(pairs) if a != b), min(len(one.parts), len(other.parts)) - 1)


def _box(path: Path, number: int, element: Element) -> dict[str, Any]:
    label = (element.findtext("name") or "").strip()
    if not label:
        raise DataError(f"Object {number} of '{path}' has no name.", allowed="An object has <name> and <bndbox>.")
    sides = [element.findtext(f"bndbox/{side}") or "" for side in SIDES]
    try:
        return _boxes.box(label, *map(float, sides))
    except (ValueError, OverflowError):
        raise DataError(
            f"Object {number} of '{path}' has the box {', '.join(side.strip() or 'nothing' for side in sides)}.",
            allowed=f"<bndbox> holds the numbers {', '.join(SIDES)}.",
        ) from None


def _splits(root: Path) -> dict[str, str]:
    """Return which split the lists in ImageSets/Main put each picture in, by its name without suffix."""
    found: dict[str, str] = {}
    for name in SPLITS:
        path = root / "ImageSets" / "Main" / f"{name}.txt"
        if path.is_file():
            for line in _boxes.content(path).decode("utf-8", "replace").split("\n"):
                if line.strip():
                    found.setdefault(line.split()[0], name)
    return found


def _tree(path: Path) -> Element:
    """Return the elements of an .xml file.

    Raises:
        DataError: it is broken, or has a document type, which might define entities.
    """

    def refuse(*_: Any) -> NoReturn:
        raise DataError(
            f"'{path}' has a document type (<!DOCTYPE …>).",
            allowed="Annotations are plain elements.",
            hint="Remove that line, if you trust the file.",
        )

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(_boxes.content(path), True)
    except expat.ExpatError as error:
        raise DataError(f"'{path}' is not whole XML: {error}.", hint="Repair or remove that file.") from error
    return builder.close()
