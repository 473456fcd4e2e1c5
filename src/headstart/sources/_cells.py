"""Cells as the Table contract wants them, from whatever a file, frame or database gives (no source itself)."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from headstart.core.blob import Blob
from headstart.core.errors import DataError, listed
from headstart.core.source import Table

PLAIN = (str, int, bool, type(None))
MISSING = ("NaTType", "NAType")
"""What pandas calls the types of its own missing values, which are dates and more besides."""
SEPARATOR = "|"
MAGIC = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
    b"ID3\x02": "audio/mpeg",
    b"ID3\x03": "audio/mpeg",
    b"ID3\x04": "audio/mpeg",
    b"\xff\xfb": "audio/mpeg",
    b"\xff\xf3": "audio/mpeg",
}
"""How the bytes of pictures and recordings begin, and what such a file is called."""
SAMPLES, RATES = ("samples", "array"), ("rate", "sampling_rate")
"""What the keys of a recording in memory are called."""


def plain(cell: Any) -> Any:
    """Return a cell as None, str, bool, int, float, date, datetime, a file, or a list of scalars; else as JSON text.

    Files are Blobs, bytes that are no text, Pillow images, arrays of two and more dimensions, and records of samples.
    A record of `bytes` and `path`, as data sets of Hugging Face hold files, becomes a Blob.
    """
    if isinstance(cell, PLAIN):
        return cell
    if isinstance(cell, float):
        return None if math.isnan(cell) else float(cell)
    if type(cell).__name__ in MISSING:
        return None
    if isinstance(cell, (datetime, date)):
        return cell.to_pydatetime(warn=False) if hasattr(cell, "to_pydatetime") else cell
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    if isinstance(cell, Decimal):
        return plain(float(cell))
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _text_or_bytes(bytes(cell))
    if isinstance(cell, Mapping):
        return _record(cell)
    if isinstance(cell, (list, tuple, set, frozenset)):
        return _flat(list(cell))
    if is_media(cell):
        return cell
    return plain(cell.tolist()) if hasattr(cell, "tolist") else str(cell)


def is_media(cell: Any) -> bool:
    """Return whether a cell is a file, or a picture as Python holds it."""
    return (
        isinstance(cell, (Blob, bytes))
        or type(cell).__module__.partition(".")[0] == "PIL"
        or (hasattr(cell, "tolist") and getattr(cell, "ndim", 0) > 1)
    )


def _text_or_bytes(cell: bytes) -> str | bytes:
    """Return bytes as the text that they are, unless they are none, or begin like a picture or a recording."""
    if media_type(cell):
        return cell
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return cell


def media_type(content: bytes) -> str:
    """Return what a picture's or a recording's bytes are, such as `image/png`, or an empty text.

    >>> media_type(bytes([0x89]) + b"PNG"), media_type(b"RIFF no sound")
    ('image/png', '')
    """
    if content.startswith((b"RIFF", b"FORM")):
        return {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AIFF": "audio/aiff"}.get(content[8:12], "")
    if content.startswith(b"BM"):
        # Two letters begin many a text; a bitmap's header goes on with zeros.
        return "image/bmp" if content[6:10] == bytes(4) else ""
    return next((name for mark, name in MAGIC.items() if content.startswith(mark)), "")


def _record(cell: Mapping[Any, Any]) -> Any:
    """Return a record as a Blob or a path, where it holds a file, as it is, where it holds samples, else as JSON."""
    if "bytes" in cell:
        content, path = cell["bytes"], str(cell.get("path") or "")
        if isinstance(content, (bytes, bytearray, memoryview)):
            kept = bytes(content)
            return Blob(path, lambda: kept)
        if content is None and cell.keys() == {"bytes", "path"}:
            return path or None
    return dict(cell) if any(key in cell for key in SAMPLES) and any(key in cell for key in RATES) else _json_text(cell)


def named_files(tables: Iterable[Table]) -> Iterator[Table]:
    """Yield tables in which each file of a column has a name of its own: `file 3`, or `cat.png (file 3)` the 2nd time.

    A file that a record holds may have no name, or only the last part of the one it had in its folder.
    """
    seen: dict[str, set[str]] = {}
    rows = 0
    for table in tables:
        for column, cells in table.items():
            names = seen.setdefault(column, set())
            for at, cell in enumerate(cells):
                if isinstance(cell, Blob):
                    number = f"file {rows + at + 1}"
                    name = cell.name if cell.name not in names else f"{cell.name} ({number})"
                    names.add(name := name or number)
                    cells[at] = cell if name == cell.name else Blob(name, cell.open)
        yield table
        rows += len(next(iter(table.values()), ()))


def _flat(cells: list[Any]) -> Any:
    """Return a list of scalars as it is, a nested one as JSON text."""
    if any(isinstance(each, (list, tuple, Mapping)) for each in cells):
        return _json_text(cells)
    return [plain(each) for each in cells]


def _json_text(cell: Any) -> str:
    try:
        return json.dumps(cell, ensure_ascii=False, default=str)
    except (RecursionError, ValueError, TypeError) as error:
        raise DataError(
            f"A cell of {type(cell).__name__} is nested in a way that JSON cannot hold: {error}."
        ) from error


def as_json(cell: Any) -> Any:
    """Return a cell as a value that JSON can hold; NaN and infinity are null, a file is as in `as_flat_text`."""
    cell = plain(cell)
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, list):
        return [as_json(each) for each in cell]
    return as_flat_text(cell) if isinstance(cell, (date, Mapping)) or is_media(cell) else cell


def as_flat_text(cell: Any) -> str:
    """Return a cell as the text of one CSV cell: missing is empty, lists are joined by `|`.

    A file is its name, or a data: URL where it has none; a picture or samples in memory are told by their size only.
    """
    if isinstance(cell, str):
        return cell
    cell = plain(cell)
    if isinstance(cell, list):
        return SEPARATOR.join(as_flat_text(each) for each in cell)
    if isinstance(cell, bytes):
        kind = media_type(cell) or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(cell).decode()}"
    if isinstance(cell, Mapping):
        return f"a recording of {max(len(cell.get(key, ())) for key in SAMPLES)} samples"
    if is_media(cell) and not isinstance(cell, Blob):
        size = cell.shape[1::-1] if hasattr(cell, "shape") else cell.size
        return f"a picture of {size[0]} x {size[1]}"
    return "" if cell is None else str(cell)


def check_names(names: Iterable[Any], origin: str) -> list[str]:
    """Return column names as text.

    Raises:
        DataError: two columns have the same name; the sentence says where they stand.
    """
    names = [str(name) for name in names]
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names, start=1):
        places.setdefault(name, []).append(place)
    twice = {name: each for name, each in places.items() if len(each) > 1}
    if twice:
        where = "; ".join(f"'{name}' (columns {', '.join(map(str, each))})" for name, each in list(twice.items())[:5])
        raise DataError(
            f"Two columns of {origin} have the same name: {where}.",
            allowed="Every column needs a name of its own.",
            hint="Rename or remove one of them.",
        )
    if not names:
        raise DataError(f"{origin[:1].upper()}{origin[1:]} has no columns.")
    return names


def check_lengths(table: Mapping[str, Any], origin: str) -> None:
    """Raise DataError if columns differ in length."""
    lengths = {name: len(cells) for name, cells in table.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"The columns of {origin} differ in length: {lengths}.", allowed=f"All of {listed(lengths)} must be equal."
        )
