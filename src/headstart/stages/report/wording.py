"""Turn a report's figures and texts into words; what is missing becomes an empty text."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

MISSING = "–"
"""What a table's cell shows where there is no figure."""

_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>[^\s/:@]*):[^\s/]*@")
# Controls that turn the direction of the text after them, and so could make one label look like another.
_TURNING = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)}


def tidy(value: Any) -> Any:
    """Return a report as JSON can hold it: no NaN or infinity, no lone surrogates, texts as keys."""
    if isinstance(value, Mapping):
        return {str(tidy(key)): tidy(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [tidy(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    return tidy(value.item()) if hasattr(value, "item") else tidy(str(value))


def masked(value: Any) -> Any:
    """Return a value with the passwords of its addresses hidden.

    >>> masked("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    if isinstance(value, Mapping):
        return {key: masked(each) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each) for each in value]
    return _CREDENTIALS.sub(r"\g<scheme>\g<user>:***@", value) if isinstance(value, str) else value


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, anything else as an empty one."""
    return value if isinstance(value, Mapping) else {}


def records(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings of a list; anything else has none."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, (list, tuple)) else []


def texts(value: Any) -> list[str]:
    """Return the texts of a list that say something, each on one line; a single text is a list of itself."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [text for text in map(clean, parts) if text]


def visible(value: object) -> str:
    """Return a text without characters that command a terminal or a page; None is an empty text."""
    text = "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    return "" if character in _TURNING else "\ufffd" if _unprintable(character) else character


def _unprintable(character: str) -> bool:
    # Joiners and selectors (Cf, Mn) belong to emoji and scripts; unassigned characters may be newer than this Python.
    return unicodedata.category(character) in ("Cc", "Cs") or ord(character) & 0xFFFE == 0xFFFE


def clean(value: object, limit: int = 0) -> str:
    r"""Return a value as one visible line, cut to `limit` columns.

    >>> clean("Refund\n  request")
    'Refund request'
    """
    text = " ".join(visible(value).split())
    return cut(text, limit) if limit else text


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for wide East Asian characters, none for marks."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, limit: int) -> str:
    """Return a text cut to `limit` columns, with an ellipsis where something is missing."""
    if columns(text) <= limit:
        return text
    kept, room = [], limit - 1
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def number(value: Any) -> float | None:
    """Return a finite number, or None for anything else."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def bounds(value: Any) -> tuple[float, float] | None:
    """Return an interval's two ends, or None for anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def share(value: Any) -> str:
    """Return a share in per cent; what is nearly none or nearly all is not rounded to it.

    >>> share(0.934), share(0.9999)
    ('93.4 %', '>99.9 %')
    """
    known = number(value)
    if known is None:
        return ""
    if 0.9995 <= known < 1:
        return ">99.9 %"
    return "<0.1 %" if 0 < known < 0.0005 else f"{100 * known:.1f} %"


def decimal(value: Any) -> str:
    """Return a number with three decimals, or three significant digits where it is large or small.

    >>> decimal(0.71234), decimal(1234.5), decimal(0)
    ('0.712', '1,234', '0')
    """
    known = number(value)
    if known is None:
        return ""
    if known and not 0.001 <= abs(known) < 1e15:
        return f"{known:.2e}"
    digits = max(0, 3 - len(str(int(abs(known))))) if abs(known) >= 1 else 3
    return f"{known:,.{digits}f}" if known else "0"


def interval(value: Any, percent: bool = True) -> str:
    """Return a 95 % interval, of shares in per cent or of plain numbers.

    >>> interval([0.925, 0.942])
    '[92.5, 94.2]'
    """
    ends = bounds(value)
    if ends is None:
        return ""
    low, high = (f"{100 * end:.1f}" if percent else decimal(end) for end in ends)
    return f"[{low}, {high}]"


def points(value: Any, percent: bool = True) -> str:
    """Return a difference with its sign: of shares in points, else as a plain number.

    >>> points(0.048), points(-0.0312, percent=False)
    ('+4.8 points', '-0.031')
    """
    known = number(value)
    if known is None:
        return ""
    return f"{100 * known:+.1f} points" if percent else f"{known:+.3f}"


def signed_interval(value: Any, percent: bool = True) -> str:
    """Return the interval of a difference, both ends with their sign."""
    ends = bounds(value)
    if ends is None:
        return ""
    low, high = (f"{100 * end:+.1f}" if percent else f"{end:+.3f}" for end in ends)
    return f"[{low}, {high}]"


def count(value: Any) -> str:
    """Return a whole number with thousands separators."""
    known = number(value)
    return "" if known is None else f"{known:,.0f}"


def counted(value: Any, noun: str) -> str:
    """Return a count with its noun: `1 row`, `1,200 rows`."""
    known = count(value)
    return known and f"{known} {noun}" + ("" if known == "1" else "s")


def seconds(value: Any) -> str:
    """Return a duration.

    >>> seconds(0.0042), seconds(31.23), seconds(125)
    ('4.2 ms', '31.2 s', '2 min 5 s')
    """
    known = number(value)
    if known is None:
        return ""
    if known < 0.1:
        return milliseconds(1000 * known)
    return f"{known:.1f} s" if known < 119.5 else f"{round(known) // 60:,} min {round(known) % 60} s"


def milliseconds(value: Any) -> str:
    """Return a latency in milliseconds."""
    known = number(value)
    return "" if known is None else f"{known:,.{1 if known < 100 else 0}f} ms"


def size(value: Any) -> str:
    """Return bytes in decimal units.

    >>> size(1_234_567)
    '1.2 MB'
    """
    known = number(value)
    if known is None:
        return ""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if known >= bytes_:
            return f"{known / bytes_:.1f} {unit}"
    return f"{known:.0f} bytes"


def price(value: Any) -> str:
    """Return an amount of money, without a currency, with two significant digits at least.

    >>> price(0.1), price(0.0000224), price(1250)
    ('0.10', '0.000022', '1,250.00')
    """
    known = number(value)
    if known is None:
        return ""
    digits = max(2, 1 - math.floor(math.log10(known))) if known > 0 else 2
    return f"{known:,.{digits}f}" if digits <= 8 else "less than 0.00000001"


def moment(value: Any) -> str:
    """Return an ISO time as `2026-01-31 14:05 UTC`, anything else as it is."""
    text = clean(value)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{read.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if read.tzinfo else f"{read:%Y-%m-%d %H:%M}"


def place(value: Any) -> str:
    """Return where something came from without the folders above it, which are nobody else's business.

    >>> place("/home/me/data/tickets.csv")
    'tickets.csv'
    """
    text = clean(masked(value))
    return text if "://" in text else PurePath(text).name or text


def listed(names: Sequence[str]) -> str:
    """Return names as `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
