"""What kind of column it is.

`text`, `image`, `audio`, `category`, `number`, `date`; or what is no input: `id`, `constant`, `empty` or `boxes`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial
from itertools import pairwise
from typing import Any

from headstart.core.blob import Blob
from headstart.core.dataset import as_text, is_blank
from headstart.sources._cells import is_media, media_type

SAMPLE = 20_000
"""Cells of a column that are looked at."""
READ = 2_000
"""Texts whose words are counted."""
MOST = 0.95
"""Share of filled cells that must be numbers, or dates."""
FEW_ROWS = 20
"""Rows below which being all different says nothing."""

DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}|\d{1,2}[/.]\d{1,2}[/.]\d{4}")
DATE_FORMATS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M")
TOKEN = re.compile(r"[!-~]+")
"""One word of Latin script: languages that write no spaces are left out."""
DIGIT_OR_AT = re.compile(r"[\d@]")
IDENTIFIER = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[^@\s]+@[^@\s]+\.[a-z]{2,}", re.IGNORECASE
)
LETTER = re.compile(r"[^\W\d_]")
UNSPACED = re.compile("[\u0e00-\u0eff\u3041-\u30ff\u3400-\u9fff]")
"""Letters of Thai, Lao, Japanese and Chinese, of which about two make a word."""

TEXT_NAME = re.compile(
    "abstract|body|comments?|complaint|content|description|document|feedback|headline|messages?|notes?|query|question|"
    "remarks?|request|review|sentence|subject|summary|texts?|title|transcript|tweet|utterance"
)
ID_NAME = re.compile("ids?|uuid|guid")
NUMBER_NAME = re.compile("code|idx|index|key|no|nr|num|number|ref|reference|row|rowid")
UNNAMED = re.compile(r"column_1|unnamed.*|index|", re.IGNORECASE)


SUFFIXES = {
    "image": (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".jfif", ".ppm", ".pgm"),
    "audio": (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".m4a"),
}
"""How files of each kind end."""


def _is_file(cell: Any, kind: str, suffixes: tuple[str, ...]) -> bool:
    """Return whether a cell is a file of a kind: its name or URL, its content, or what Python holds it as."""
    if isinstance(cell, Blob):
        known = cell.name.lower().endswith(tuple(suffix for each in SUFFIXES.values() for suffix in each))
        cell = cell.name if known else cell.read()
    if isinstance(cell, (str, os.PathLike)):
        name = os.fspath(cell).strip()
        if name.startswith("data:"):
            return name.startswith(f"data:{kind}/")
        # A sentence may end in a file's name; a file's name is one line without a gap of several words.
        return name.partition("?")[0].lower().endswith(suffixes) and len(name) < 1024 and "\n" not in name
    if isinstance(cell, bytes):
        return media_type(cell).startswith(f"{kind}/")
    if isinstance(cell, dict):
        return kind == "audio"  # no other record stays one
    return kind == "image" and is_media(cell)


def words_of_name(name: str) -> list[str]:
    """Return the words of a column's name in lower case.

    >>> words_of_name("ticketID"), words_of_name("class-label")
    (['ticket', 'id'], ['class', 'label'])
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", spaced.lower())


def is_text_name(name: str) -> bool:
    """Return whether a column is called what free text is called, such as `message` or `ticket_body`."""
    words = words_of_name(name)
    return bool(words) and TEXT_NAME.fullmatch(words[-1]) is not None


def _is_id_name(name: str) -> bool:
    return any(ID_NAME.fullmatch(word) for word in words_of_name(name))


def is_number(cell: Any) -> bool:
    """Return whether a cell is a number, or true or false, as it is or written out."""
    if isinstance(cell, (bool, int, float)):
        return True
    if not isinstance(cell, str) or "_" in cell:
        return False
    try:
        float(cell)
    except ValueError:
        return cell.strip().casefold() in ("true", "false")
    return True


def is_date(cell: Any) -> bool:
    """Return whether a cell is a date: ISO, or with day, month and year between slashes or dots."""
    if isinstance(cell, date):
        return True
    text = cell.strip() if isinstance(cell, str) else ""
    if len(text) > 40 or not DATE.match(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return any(_fits(text, form) for form in DATE_FORMATS)
    return True


def _fits(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def word_count(text: str) -> int:
    """Return how many words with letters a text has; only its beginning is read.

    >>> word_count("Order 12345 arrived"), word_count("2015-02-24 11:35:52 -0800")
    (2, 0)
    """
    text = text[:READ]
    if unspaced := len(UNSPACED.findall(text)):
        return max(1, unspaced // 2)
    return sum(LETTER.search(word) is not None for word in text.split())


def kind_of(name: str, cells: Sequence[Any]) -> str:
    """Return the kind of a column, from its cells and, where they leave it open, its name."""
    some = cells[:: max(1, len(cells) // SAMPLE)]
    filled = [cell for cell in some if not is_blank(cell)] or [cell for cell in cells if not is_blank(cell)]
    if not filled:
        return "empty"
    if len(cells) > 1 and len(filled) == len(some) and _constant(cells):
        return "constant"
    if kind := kind_of_files(filled):
        return kind
    if any(isinstance(cell, list) and any(isinstance(part, dict) for part in cell) for cell in filled):
        return "boxes"
    if any(isinstance(cell, (list, tuple, set)) for cell in filled):
        return "category"
    if _most(filled, is_number):
        return "id" if _numbers_rows(name, filled) else "number"
    if _most(filled, is_date):
        return "date"
    return _kind_of_texts(name, [as_text(cell).strip() for cell in filled])


def kind_of_files(cells: Sequence[Any]) -> str:
    """Return `image` or `audio` where nearly all cells are such files, else an empty text."""
    filled = [cell for cell in cells if not is_blank(cell)]
    for kind, suffixes in SUFFIXES.items():
        if filled and _most(filled, partial(_is_file, kind=kind, suffixes=suffixes)):
            return kind
    return ""


def _constant(cells: Sequence[Any]) -> bool:
    if is_media(cells[0]) or isinstance(cells[0], dict):
        return False  # the text of a large array does not tell it from others
    first = as_text(cells[0]).strip()
    return all(as_text(cell).strip() == first for cell in cells)


def _most(cells: Sequence[Any], holds: Callable[[Any], bool]) -> bool:
    # Few first, so that a column of long texts is not tried cell by cell.
    return all(sum(map(holds, some)) >= share * len(some) for some, share in ((cells[:200], 0.5), (cells, MOST)))


def _numbers_rows(name: str, cells: Sequence[Any]) -> bool:
    """Return whether numbers only tell rows apart."""
    words = words_of_name(name)
    numbered = bool(words) and NUMBER_NAME.fullmatch(words[-1]) is not None and "of" not in words
    called = numbered or _is_id_name(name)
    counted = UNNAMED.fullmatch(name) is not None and len(cells) > 2
    if (not called and not counted) or any(isinstance(cell, bool) for cell in cells):
        return False
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return False
    if not all(value.is_integer() for value in values) or len(set(values)) < 0.98 * len(values):
        return False
    return called or all(after > before for before, after in pairwise(values))


def _kind_of_texts(name: str, texts: Sequence[str]) -> str:
    different = len(set(texts))
    share = different / len(texts)
    read = texts[:READ]
    words = sum(map(word_count, read)) / len(read)
    length = sum(map(len, read)) / len(read)
    if is_text_name(name) and (words >= 2 or (words >= 0.5 and share > 0.2)):
        return "text"
    if words >= 3 and (share > (0.2 if len(texts) >= 200 else 0.5) or different >= 200):
        return "text"
    if _tells_rows_apart(name, texts, share):
        return "id"
    return "text" if share > 0.5 and length >= 20 and words >= 2 else "category"


def _tells_rows_apart(name: str, texts: Sequence[str], share: float) -> bool:
    """Return whether texts only tell rows apart: one word each, nearly all different."""
    if sum(IDENTIFIER.fullmatch(text) is not None for text in texts) >= MOST * len(texts):
        return True
    if share < 0.98 or not all(TOKEN.fullmatch(text) for text in texts):
        return False
    marked = sum(DIGIT_OR_AT.search(text) is not None for text in texts) >= 0.9 * len(texts)
    return marked or len(texts) >= FEW_ROWS or _is_id_name(name)
