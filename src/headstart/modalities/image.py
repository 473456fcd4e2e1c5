"""Pictures, from one column of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.backbone import Network
from headstart.core.blob import Blob, content
from headstart.core.dataset import is_blank, table_rows
from headstart.core.errors import DataError, listed
from headstart.core.modality import Modality
from headstart.core.registry import require
from headstart.core.source import Table
from headstart.core.threads import core_count
from headstart.modalities import _gradients, _pixels

THUMBNAIL = 64
"""Pixels of a side of the small picture that hand-crafted features and twins are worked out from."""
EXAMPLE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQAAAAA3iMLMAAAAFElEQVR42mNgQAL8H5gYGDARMgAAI20BDofI/jkAAAAASUVO"
    "RK5CYII="
)
"""A picture of 16 x 16 in black and white, for the server's documentation."""


@final
class Image(Modality):
    """The picture of a row: a file, its bytes, a data: URL, or, in Python, a Pillow image or an array (h, w, 3).

    `prepare` gives `image` (n,), the cells; `encode` gives `pixels`, as the network's own preprocessing lays them out.
    """

    pretrained = True
    files = True
    at_once = 64

    def __init__(self, columns: Sequence[str], preprocessing: Mapping[str, Any] | None = None) -> None:
        if len(columns) != 1:
            raise DataError(
                f"{len(columns)} columns hold pictures: {listed(columns)}.", hint="Name one of them with --input."
            )
        self._columns, self.preprocessing = tuple(columns), preprocessing

    @property
    def columns(self) -> Sequence[str]:
        """The column of pictures."""
        return self._columns

    @classmethod
    def fit(cls, table: Table, columns: Sequence[str], kinds: Mapping[str, str]) -> Image:
        """Remember the column; there is nothing to learn."""
        return cls(columns)

    def spec(self) -> dict[str, Any]:
        """Return the column."""
        return {"columns": list(self._columns)}

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Image:
        """Make the modality from its spec."""
        return cls(spec["columns"])

    def bind(self, network: Network) -> Image:
        """Return this modality with the size, crop and scale that the network was trained with."""
        return Image(self._columns, network.preprocessing)

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return a data: URL for the column."""
        return {
            name: {
                "type": "string",
                "format": "data-url",
                "description": "A picture as a data: URL: data:image/jpeg;base64,…",
                "examples": [EXAMPLE],
            }
            for name in self._columns
        }

    def prepare(self, table: Table) -> dict[str, np.ndarray]:
        """Return `image` (n,), the cells as they are."""
        cells = np.empty(table_rows(table), dtype=object)
        cells[:] = table.get(self._columns[0], [None] * len(cells))
        return {"image": cells}

    def encode(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `pixels` (n, channels, height, width) or (n, height, width, channels) float32."""
        if self.preprocessing is None:
            raise TypeError("This image modality is not bound to a network.")
        settings = self.preprocessing
        # Twice what is kept: the network then sees next to no difference, and large photos decode several times faster.
        sides = [settings.get("size") or 0, settings.get("crop") or 0]
        bands = _pixels.count_of(settings)
        least = 2 * max(max(each) if isinstance(each, (list, tuple)) else int(each) for each in sides)
        made = _each(lambda cell: _pixels.pixels([opened(cell, least, bands)], settings)[0], arrays["image"])
        return {"pixels": np.stack(made)}

    def contents(self, arrays: Arrays) -> Sequence[str | bytes]:
        """Return the bytes of each picture's file, or of its pixels."""
        return [_bytes(cell) for cell in arrays["image"]]

    def unreadable(self, table: Table) -> dict[int, str]:
        """Return the rows whose picture cannot be decoded, with the reason."""

        def why(cell: Any) -> str:
            if is_blank(cell):
                return ""
            try:
                opened(cell, THUMBNAIL)
            except DataError as error:
                return error.problem
            return ""

        reasons = _each(why, self.prepare(table)["image"])
        return {row: reason for row, reason in enumerate(reasons) if reason}

    def handcrafted(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `image_handcrafted` (n, d): oriented gradients (HOG) and colour histograms of a small copy."""
        return {"image_handcrafted": _gradients.features(self._thumbnails(arrays["image"]))}

    def signatures(self, table: Table) -> np.ndarray:
        """Return unit vectors (n, 256): each picture's brightness, 16 x 16, about its mean."""
        return _gradients.fingerprints(self._thumbnails(self.prepare(table)["image"]))

    def _thumbnails(self, cells: np.ndarray) -> np.ndarray:
        size = (THUMBNAIL, THUMBNAIL)
        made = _each(lambda cell: np.asarray(opened(cell, THUMBNAIL).resize(size, 2), np.uint8), cells)
        return np.stack(made) if made else np.zeros((0, *size, 3), np.uint8)


def opened(cell: Any, least: int, bands: int = 3) -> Any:
    """Return a cell as a Pillow image in RGB, or of four bands; `least` is the smallest side that is still of use.

    Raises:
        DataError: it is no picture, or a broken one.
    """
    if is_blank(cell):
        raise DataError("A row has no picture.", hint="Leave rows without a picture out.")
    if isinstance(cell, np.ndarray):
        cell = require("PIL.Image", "image").fromarray(cell)
    if type(cell).__module__.partition(".")[0] == "PIL":
        return _pixels.four(cell) if bands == _pixels.FOUR else cell.convert("RGB")
    name = cell.name if isinstance(cell, Blob) else "a picture"
    return _pixels.decode(content(cell), name, least, bands)


def _bytes(cell: Any) -> bytes:
    if isinstance(cell, np.ndarray) or type(cell).__module__.partition(".")[0] == "PIL":
        picture = opened(cell, 0, _pixels.FOUR)
        return repr(picture.size).encode() + picture.tobytes()
    return content(cell) if not is_blank(cell) else b""


def _each(work: Callable[[Any], Any], cells: np.ndarray) -> list[Any]:
    """Return the work done on each cell, on all cores: decoding and resizing let other threads run."""
    if len(cells) < 4 or core_count() == 1:
        return [work(cell) for cell in cells]
    with ThreadPoolExecutor(core_count()) as pool:
        return list(pool.map(work, cells))
