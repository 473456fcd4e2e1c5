"""Two views of each row: what must be told apart from all other rows, though it looks or sounds different."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np

from headstart.core.course import Examples

AREA = (0.3, 1.0)
"""Share of a picture that a view shows."""
RATIO = 4 / 3
"""How much wider or higher than the picture's own sides a view is cut, at the most."""
BRIGHTER, CONTRAST, COLOURED = 0.4, 0.4, 0.4
"""How far brightness (in standard deviations of the picture), contrast and saturation are changed, at the most."""
GREY = 0.2
"""Share of the views without colours."""
LONG = (0.6, 1.0)
"""Share of a recording that a view holds."""
NOISE = (10.0, 30.0)
"""How many decibels noise lies below a recording."""


@final
class Views(Examples):
    """Rows seen twice, each time in another way: first all rows of a batch, and then all of them again.

    The views are drawn from the seed, the epoch and the row; without an epoch they are always the same ones.

    Args:
        rows: pictures (`pixels`), or recordings (`samples`, `lengths`).
        seed: makes the views repeatable.
        axis: which axis of a picture holds its colours.
    """

    def __init__(self, rows: Examples, seed: int, axis: int = 0) -> None:
        self.rows, self.seed, self.axis = rows, seed, axis

    @property
    def sizes(self) -> np.ndarray:
        """How long each row is (n,)."""
        return self.rows.sizes

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return `pixels` (2b, …), or `samples` (flat) with `lengths` (2b,)."""
        given = self.rows.batch(rows)
        if "pixels" in given:
            return {"pixels": np.stack(self._twice(rows, epoch, given["pixels"], self._looked))}
        ends = np.cumsum(given["lengths"])
        heard = self._twice(rows, epoch, np.split(given["samples"], ends[:-1]), listened)
        return {"samples": np.concatenate(heard), "lengths": np.array([len(each) for each in heard], np.int32)}

    def _looked(self, picture: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        return np.moveaxis(looked(np.moveaxis(picture, self.axis, 0), chance), 0, self.axis)

    def _twice(
        self, rows: np.ndarray, epoch: int | None, cells: Any, see: Callable[[np.ndarray, np.random.Generator], Any]
    ) -> list[np.ndarray]:
        at = 0 if epoch is None else epoch + 1
        return [
            see(cell, np.random.default_rng([self.seed, at, int(row), again]))
            for again in (0, 1)
            for row, cell in zip(rows.tolist(), cells, strict=True)
        ]


def looked(picture: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return a view of a picture (colours, height, width): cut, mirrored by chance, and in other colours.

    Chen and others 2020, arXiv:2002.05709, without blurring.
    """
    height, width = picture.shape[1:]
    side, stretch = np.sqrt(chance.uniform(*AREA)), np.exp(chance.uniform(-1, 1) * np.log(RATIO) / 2)
    rows, columns = (
        int(np.clip(round(whole * side * each), 1, whole)) for whole, each in ((height, stretch), (width, 1 / stretch))
    )
    top, left = int(chance.integers(0, height - rows + 1)), int(chance.integers(0, width - columns + 1))
    made = resized(picture[:, top : top + rows, left : left + columns], height, width)
    if chance.random() < 0.5:
        made = made[:, :, ::-1]
    centre, spread = made.mean(), made.std()
    made = (made - centre) * chance.uniform(1 - CONTRAST, 1 + CONTRAST) + centre
    made = made + chance.uniform(-BRIGHTER, BRIGHTER) * spread
    grey = made.mean(axis=0, keepdims=True)
    share = 0.0 if chance.random() < GREY else chance.uniform(1 - COLOURED, 1 + COLOURED)
    return np.ascontiguousarray(grey + share * (made - grey), np.float32)


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture (colours, …) with other sides, by straight lines between its points."""
    for axis, sides in ((1, height), (2, width)):
        own = picture.shape[axis]
        place = np.clip((np.arange(sides) + 0.5) * own / sides - 0.5, 0, own - 1)
        low = np.floor(place).astype(np.int64)
        part = (place - low).astype(np.float32).reshape((-1, 1) if axis == 1 else (1, -1))
        first, second = (picture.take(each, axis) for each in (low, np.minimum(low + 1, own - 1)))
        picture = first + (second - first) * part
    return picture


def listened(samples: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return a view of a recording (samples,): a part of it, with noise."""
    count = max(1, int(len(samples) * chance.uniform(*LONG)))
    start = int(chance.integers(0, len(samples) - count + 1))
    part = samples[start : start + count]
    loud = float(np.sqrt((part.astype(np.float64) ** 2).mean())) * 10 ** (-chance.uniform(*NOISE) / 20)
    return (part + loud * chance.standard_normal(count)).astype(np.float32)


def views_of(rows: Examples, preprocessing: Mapping[str, Any], seed: int) -> Views:
    """Return rows as a network reads them, twice each."""
    return Views(rows, seed, 0 if preprocessing.get("layout", "nchw") == "nchw" else 2)
