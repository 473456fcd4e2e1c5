"""Pairs of texts: which columns hold them, and how a network reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.core.backbone import Network
from headstart.core.course import Examples
from headstart.core.dataset import Dataset, as_text
from headstart.core.errors import DataError, listed, nearest
from headstart.modalities.text import Text

COLUMN = "text"
KNOWN = (
    ("input", "target"),
    ("question", "answer"),
    ("query", "answer"),
    ("query", "passage"),
    ("query", "document"),
    ("title", "body"),
    ("title", "text"),
    ("anchor", "positive"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("instruction", "output"),
    ("prompt", "completion"),
)
"""What columns of texts that belong together are called."""
GRADES = ("score", "similarity", "grade")


def columns_of(dataset: Dataset, named: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the columns of the first and the second text and of the grade, which may be none.

    Args:
        named: `input` and `target`, where the user named them.

    Raises:
        DataError: a named column is missing, or they are not known.
    """
    table = dataset.table
    lowered = {name.strip().casefold(): name for name in reversed(table)}
    for name in named.values():
        if name not in table:
            raise DataError(
                f"There is no column '{name}'.", allowed=f"Columns: {listed(table)}.", hint=nearest(name, table)
            )
    first, second = named.get("input", ""), named.get("target", "")
    if not (first and second):
        texts = [name for name, kind in dataset.kinds.items() if kind == "text"]
        choices = [(lowered[one], lowered[two]) for one, two in KNOWN if one in lowered and two in lowered]
        choices += [(texts[0], texts[1])] if len(texts) == 2 else []
        fitting = (each for each in choices if first in ("", each[0]) and second in ("", each[1]))
        found = next(fitting, None)
        if found is None:
            raise DataError(
                "It is not known which two columns hold texts that belong together.",
                allowed=f"Columns: {listed(table)}.",
                hint="Name them: --input COLUMN --target COLUMN",
            )
        first, second = found
    if first == second:
        raise DataError(f"The column '{first}' is to be both texts of a pair.", allowed="Two columns of texts.")
    grade = next((lowered[name] for name in GRADES if name in lowered), "")
    return first, second, "" if grade in (first, second) else grade


def number_of(cell: Any) -> float | None:
    """Return a grade as a finite number, or None."""
    try:
        value = float(as_text(cell).strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


class Couples(Examples):
    """Pairs as a network reads them: the first texts of a batch, and then the second ones.

    Args:
        network: whose tokenizer is used.
        first: texts (n,).
        second: texts (n,).
        grades: (n,), or None where all belong together.
    """

    def __init__(
        self, network: Network, first: Sequence[Any], second: Sequence[Any], grades: np.ndarray | None
    ) -> None:
        text = Text([COLUMN])
        arrays = text.prepare({COLUMN: [*first, *second]})
        encoded = text.bind(network).encode(arrays)
        self.parts = np.split(encoded["ids"], np.cumsum(encoded["lengths"])[:-1])
        numbers: dict[str, int] = {}
        told = [numbers.setdefault(each, len(numbers)) for each in arrays["text"]]
        self.first, self.second = np.array(told, np.int64).reshape(2, -1)
        self.grades = grades
        cut = int(sum(len(each) >= network.preprocessing["max_length"] for each in self.parts))
        longest = network.preprocessing["max_length"]
        self.notes = [f"{cut:,} of {len(self.parts):,} texts are cut at {longest:,} tokens."] if cut else []

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each pair's longer text (n,)."""
        return np.array([len(each) for each in self.parts], np.int64).reshape(2, -1).max(axis=0)

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return `ids` (flat) and `lengths` (2b,); `first` and `second` (b,); where there are some `grades` (b,)."""
        parts = [self.parts[row] for row in (*rows.tolist(), *(rows + len(self.first)).tolist())]
        given = {
            "ids": np.concatenate(parts),
            "lengths": np.array([len(each) for each in parts], np.int32),
            "first": self.first[rows],
            "second": self.second[rows],
        }
        return given if self.grades is None else given | {"grades": self.grades[rows].astype(np.float32)}
