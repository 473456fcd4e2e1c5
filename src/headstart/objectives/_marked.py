"""Pictures with marked boxes, as a network learns from them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from headstart.core.backbone import Network
from headstart.core.course import Examples
from headstart.core.dataset import is_blank, table_rows
from headstart.core.errors import DataError
from headstart.core.source import Table
from headstart.modalities.image import opened
from headstart.objectives import _moved


@final
@dataclass(frozen=True)
class Boxes(Examples):
    """Pictures as a network reads them, and `boxes` (m, 4), `classes` (m,), `counts` (n,) on them.

    Pictures keep their own size where the network sets none: they then stand in the corner of what they share, and
    `sides` (n, 2) says how high and wide each is.

    Args:
        columns: of pictures, and of boxes.
        network: its labels number the classes.
        table: the rows.
        seed: with the epoch and the row it says how a picture is varied.
        vary: how far.
    """

    columns: tuple[str, str]
    network: Network
    table: Table
    seed: int
    vary: _moved.Vary = field(default_factory=_moved.Vary)

    @property
    def notes(self) -> Sequence[str]:  # type: ignore[override]
        """How many boxes are left out."""
        flat = sum(is_flat(each) for row in range(table_rows(self.table)) for each in self._marked(row))
        return [f"{flat:,} boxes without an area are left out"] if flat else []

    @property
    def sizes(self) -> np.ndarray:
        """Return 1 for each row."""
        return np.ones(table_rows(self.table), np.int64)

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return the arrays of some rows."""
        parts = [self._one(int(row), epoch) for row in rows]
        sides = np.array([pixels.shape[1:] for pixels, _, _ in parts], np.int64)
        high, wide = sides.max(0)
        stacked = np.zeros((len(parts), parts[0][0].shape[0], high, wide), np.float32)
        for number, (pixels, _, _) in enumerate(parts):
            stacked[number, :, : pixels.shape[1], : pixels.shape[2]] = pixels
        arrays = {
            "pixels": stacked,
            "boxes": np.concatenate([boxes for _, boxes, _ in parts]),
            "classes": np.concatenate([classes for _, _, classes in parts]),
            "counts": np.array([len(boxes) for _, boxes, _ in parts], np.int64),
        }
        return arrays if (sides == sides[0]).all() else arrays | {"sides": sides}

    def _one(self, row: int, epoch: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        picture = opened(self.table[self.columns[0]][row], 0)
        number = {label: place for place, label in enumerate(self.network.labels)}
        known = [each for each in self._marked(row) if not is_flat(each) and each["label"] in number]
        boxes = np.array([each["box"] for each in known], np.float64).reshape(-1, 4)
        classes = np.array([number[each["label"]] for each in known], np.int64)
        if epoch is not None:
            generator = np.random.default_rng([self.seed, epoch, row])
            picture, boxes = _moved.varied(picture, boxes, self.vary, generator)
        pixels, boxes, kept = _moved.read(picture, boxes, self.network.preprocessing)
        return pixels, boxes, classes[kept]

    def _marked(self, row: int) -> list[dict[str, Any]]:
        return boxes_of(self.table[self.columns[1]][row], self.columns[1], row) or []


def boxes_of(cell: Any, column: str, row: int) -> list[dict[str, Any]] | None:
    """Return a cell's boxes; None where it is blank.

    Args:
        cell: a list of `{"label": …, "box": [left, top, right, bottom]}`, or the same as JSON text.

    Raises:
        DataError: it holds something else.
    """
    if is_blank(cell):
        return None
    try:
        read = json.loads(cell) if isinstance(cell, str) else cell
        made: list[dict[str, Any]] = [
            {"label": str(each["label"]), "box": [float(edge) for edge in each["box"]]} for each in read
        ]
        for each in made:
            left, top, right, bottom = each["box"]
            if not math.isfinite(left + top + right + bottom):
                raise ValueError
    except (ValueError, TypeError, KeyError):
        raise DataError(
            f"Row {row + 1} of the column '{column}' holds no boxes: '{str(cell)[:80]}'.",
            allowed='Boxes such as [{"label": "dog", "box": [10, 20, 110, 220]}], in pixels from the left and the top.',
        ) from None
    return made


def is_flat(box: Mapping[str, Any]) -> bool:
    left, top, right, bottom = box["box"]
    return right <= left or bottom <= top
