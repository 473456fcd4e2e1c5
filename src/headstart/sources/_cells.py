"""Cells as the Table contract wants them, from whatever a file, frame or database gives (no source itself)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from headstart.core.errors import DataError, listed

PLAIN = (str, int, bool, type(None))
MISSING = ("NaTType", "NAType")
"""What pandas calls the types of its own missing values, which are dates and more besides."""
SEPARATOR = "|"


def plain(cell: Any) -> Any:
    """Return a cell as None, str, bool, int, float, date, datetime, or a list of such; other nesting as JSON text."""
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
        return bytes(cell).decode("utf-8", "replace")
    if isinstance(cell, Mapping):
        return _json_text(cell)
    if isinstance(cell, (list, tuple, set, frozenset)):
        return _flat(list(cell))
    return plain(cell.tolist()) if hasattr(cell, "tolist") else str(cell)


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
    """Return a cell as a value that JSON can hold; NaN and infinity are null."""
    cell = plain(cell)
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, list):
        return [as_json(each) for each in cell]
    return str(cell) if isinstance(cell, date) else cell


def as_flat_text(cell: Any) -> str:
    """Return a cell as the text of one CSV cell: missing is empty, lists are joined by `|`."""
    if isinstance(cell, str):
        return cell
    cell = plain(cell)
    if isinstance(cell, list):
        return SEPARATOR.join(as_flat_text(each) for each in cell)
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
