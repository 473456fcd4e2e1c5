"""Numbers, categories and dates of a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, final

import numpy as np

from headstart.core.dataset import as_text, is_blank, table_rows
from headstart.core.modality import Modality
from headstart.core.source import Table

CATEGORIES = 254
"""Most categories of a column that are told apart (what gradient boosting's 8-bit bins hold)."""
WIDEST = 60
"""Most categories of a column that get an array column of their own for linear heads."""
DATE_FORMATS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d/%m/%Y %H:%M", "%d.%m.%Y %H:%M")
DATE_PARTS = ("day", "month", "weekday", "hour")


@dataclass(frozen=True)
class Column:
    """What is known of one column: its kind, its categories, and mean and scale of its numbers."""

    name: str
    kind: str
    categories: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    example: Any = field(default=None)

    @property
    def width(self) -> int:
        """How many columns of `row` it fills."""
        return len(DATE_PARTS) if self.kind == "date" else 1


@final
class Row(Modality):
    """The numbers, categories and dates of a row.

    `prepare` gives `row` (n, columns) float32 for trees, with category numbers and NaN for what is missing or new,
    and `row_scaled` (n, wider) float32 for linear heads: standardised numbers, one-hot categories, marks for missing.
    `row_kind` (n, columns) marks which columns of `row` are category numbers.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)

    @property
    def columns(self) -> Sequence[str]:
        """The columns' names."""
        return tuple(column.name for column in self._columns)

    @classmethod
    def fit(cls, table: Table, columns: Sequence[str], kinds: Mapping[str, str]) -> Row:
        """Learn categories, means and scales."""
        return cls([_fit_column(name, kinds.get(name, "category"), table[name]) for name in columns])

    def spec(self) -> dict[str, Any]:
        """Return the columns as plain JSON data."""
        return {
            "columns": [
                {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(column).items()}
                for column in self._columns
            ]
        }

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Row:
        """Make the modality from its spec."""
        return cls([_column(each) for each in spec["columns"]])

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each column."""
        types = {"number": ["number", "string", "null"], "category": ["string", "number", "boolean", "null"]}
        schema: dict[str, dict[str, Any]] = {}
        for column in self._columns:
            schema[column.name] = {
                "type": types.get(column.kind, ["string", "null"]),
                "description": {"number": "A number.", "date": "A date."}.get(column.kind, "A category."),
                "examples": [column.example],
            }
        return schema

    def categorical(self) -> np.ndarray:
        """Return a mask (columns,) of the columns of `row` that are category numbers."""
        return np.concatenate([np.full(column.width, column.kind == "category") for column in self._columns])

    def prepare(self, table: Table) -> dict[str, np.ndarray]:
        """Return `row` and `row_scaled`."""
        rows = table_rows(table)
        plain, scaled = [], []
        for column in self._columns:
            values = _values(column, table.get(column.name) or [None] * rows)
            plain.append(values)
            scaled.append(_scaled(column, values))
        return {
            "row": np.concatenate(plain, axis=1).astype(np.float32),
            "row_scaled": np.concatenate(scaled, axis=1).astype(np.float32),
            "row_kind": np.tile(self.categorical(), (rows, 1)),
        }


def _column(spec: Mapping[str, Any]) -> Column:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in spec.items()}
    return Column(**fields)


def _fit_column(name: str, kind: str, cells: Sequence[Any]) -> Column:
    filled = [cell for cell in cells if not is_blank(cell)]
    example = filled[0] if filled else None
    if not isinstance(example, (str, int, float, bool, type(None))):
        example = as_text(example)
    if kind not in ("number", "date"):
        common = [label for label, _ in Counter(as_text(cell).strip() for cell in filled).most_common(CATEGORIES)]
        return Column(name, "category", categories=tuple(sorted(common)), example=example)
    values = _values(Column(name, kind), cells)
    known = [values[:, each][~np.isnan(values[:, each])] for each in range(values.shape[1])]
    mean = tuple(float(each.mean()) if len(each) else 0.0 for each in known)
    scale = tuple(float(each.std()) or 1.0 if len(each) else 1.0 for each in known)
    return Column(name, kind, mean=mean, scale=scale, example=example)


def _values(column: Column, cells: Sequence[Any]) -> np.ndarray:
    """Return the cells as numbers (n, width), NaN where missing or not known."""
    if column.kind == "number":
        return np.array([_number(cell) for cell in cells], dtype=np.float64)[:, None]
    if column.kind == "date":
        return np.array([_date(cell) for cell in cells], dtype=np.float64).reshape(-1, len(DATE_PARTS))
    place = {label: float(each) for each, label in enumerate(column.categories)}
    return np.array([place.get(as_text(cell).strip(), math.nan) for cell in cells], dtype=np.float64)[:, None]


def _scaled(column: Column, values: np.ndarray) -> np.ndarray:
    missing = np.isnan(values)
    if column.kind == "category":
        wide = min(len(column.categories), WIDEST)
        return (values == np.arange(wide)[None, :]).astype(np.float64)
    filled = np.where(missing, 0.0, (values - np.array(column.mean)) / np.array(column.scale))
    return np.concatenate([np.clip(filled, -10, 10), missing[:, :1]], axis=1)


def _number(cell: Any) -> float:
    if isinstance(cell, bool):
        return float(cell)
    if not isinstance(cell, (int, float)):
        text = as_text(cell).strip().casefold()
        if text in ("true", "false"):
            return float(text == "true")
        try:
            cell = float(text)
        except ValueError:
            return math.nan
    try:
        value = float(cell)
    except OverflowError:
        return math.nan
    return value if abs(value) < 1e37 else math.nan


def _date(cell: Any) -> tuple[float, float, float, float]:
    moment = cell if isinstance(cell, datetime) else _parse_date(as_text(cell).strip())
    if moment is None:
        return (math.nan,) * 4
    return float(moment.toordinal()), float(moment.month), float(moment.weekday()), float(moment.hour)


def _parse_date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in DATE_FORMATS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None
