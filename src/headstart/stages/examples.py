"""Rows as a network learns from them: texts as tokens, pictures varied in each epoch, recordings as samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, take
from headstart.core.backbone import Network
from headstart.core.course import Examples
from headstart.core.errors import UsageError, listed
from headstart.core.modality import Modality

MARGIN = 8
"""A picture's frame is larger by one part in so many, out of which each epoch cuts another piece."""
MOST = 4_000_000_000
"""Bytes of pictures that are kept in memory; where there are more, they are read again in every epoch."""

VARIED = ("mirror", "turn", "none")
"""How pictures are varied: mirrored, left to right; turned by quarters, too, where there is no up; not at all."""


def examples_of(modality: Modality, network: Network, arrays: Arrays, seed: int, varied: str = VARIED[0]) -> Examples:
    """Return rows of what `modality.prepare` gave as examples for a network.

    Args:
        varied: how pictures are varied in each epoch, one of `VARIED`.
    """
    bound = modality.bind(network)
    if "text" in arrays:
        return Tokens(bound, arrays)
    if "image" in arrays:
        return Pictures(bound, _framed(modality, network), network, arrays, seed, varied)
    return Cells(bound, arrays)


@final
class Tokens(Examples):
    """Texts, turned into tokens once."""

    def __init__(self, modality: Modality, arrays: Arrays) -> None:
        encoded = modality.encode({"text": arrays["text"]})
        self.ids, self.lengths = encoded["ids"], encoded["lengths"]
        self.starts = np.cumsum(self.lengths) - self.lengths

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each text."""
        return self.lengths

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return `ids` and `lengths`."""
        lengths = self.lengths[rows]
        spans = [self.ids[at : at + length] for at, length in zip(self.starts[rows], lengths, strict=True)]
        return {"ids": np.concatenate(spans), "lengths": lengths}


@final
class Pictures(Examples):
    """Pictures: in an epoch cut out of a larger frame, mirrored and turned by chance; else as they are.

    Args:
        modality: bound to the network.
        framed: the same with a larger frame.
        network: whose preprocessing it is.
        arrays: `image` (n,), cells.
        varied: one of `VARIED`.

    Raises:
        UsageError: there is no such way to vary them.
    """

    def __init__(
        self, modality: Modality, framed: Modality, network: Network, arrays: Arrays, seed: int, varied: str = VARIED[0]
    ) -> None:
        if varied not in VARIED:
            raise UsageError(f"varied is '{varied}'.", allowed=f"Ways to vary pictures: {listed(VARIED)}.")
        self.modality, self.framed, self.arrays, self.seed = modality, framed, arrays, seed
        self.varied = varied
        self.rows_axis = 2 if network.preprocessing.get("layout", "nchw") == "nchw" else 1
        self.kept: dict[bool, dict[int, np.ndarray]] = {True: {}, False: {}}
        self.size = 0

    @property
    def sizes(self) -> np.ndarray:
        """1 for each: all are alike."""
        return np.ones(len(self.arrays["image"]), np.int64)

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return `pixels`."""
        plain = self._pixels(rows, framed=False) if epoch is None or self.varied == "none" else None
        if plain is not None:
            return {"pixels": plain}
        wide = self._pixels(rows, framed=True)
        sides = self._sides()
        first = self.rows_axis
        made = []
        for row, picture in zip(rows.tolist(), wide, strict=True):
            rng = np.random.default_rng([self.seed, int(epoch or 0), row])
            top, left = (int(rng.integers(0, picture.shape[first - 1 + each] - sides[each] + 1)) for each in (0, 1))
            cut = np.take(picture, np.arange(top, top + sides[0]), axis=first - 1)
            cut = np.take(cut, np.arange(left, left + sides[1]), axis=first)
            made.append(self._turned(np.flip(cut, first) if rng.random() < 0.5 else cut, rng))
        return {"pixels": np.ascontiguousarray(np.stack(made))}

    def _turned(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.varied != "turn":
            return picture
        rows, columns = self.rows_axis - 1, self.rows_axis
        # One that is wider than high can be turned upside down only.
        quarters = int(rng.integers(4)) if picture.shape[rows] == picture.shape[columns] else 2 * int(rng.integers(2))
        return np.rot90(picture, quarters, (rows, columns))

    def _sides(self) -> tuple[int, int]:
        if not self.kept[False]:
            self._pixels(np.array([0]), framed=False)
        some = next(iter(self.kept[False].values()), None)
        if some is None:
            some = self.modality.encode({"image": self.arrays["image"][:1]})["pixels"][0]
        return some.shape[self.rows_axis - 1], some.shape[self.rows_axis]

    def _pixels(self, rows: np.ndarray, *, framed: bool) -> np.ndarray:
        kept = self.kept[framed]
        missing = np.array([row for row in rows.tolist() if row not in kept], dtype=np.int64)
        fresh: dict[int, np.ndarray] = {}
        if len(missing):
            modality = self.framed if framed else self.modality
            made = modality.encode(take(self.arrays, missing))["pixels"]
            fresh = dict(zip(missing.tolist(), made, strict=True))
            for row, value in fresh.items():
                if self.size + value.nbytes // 2 <= MOST:
                    kept[row] = value.astype(np.float16)
                    self.size += value.nbytes // 2
        return np.stack(
            [(fresh[row] if row in fresh else kept[row]).astype(np.float16) for row in rows.tolist()]
        ).astype(np.float32)


def _framed(modality: Modality, network: Network) -> Modality:
    """Return a modality whose pictures have a margin around what the network reads."""
    settings: dict[str, Any] = dict(network.preprocessing)
    sides = settings.get("crop") or settings.get("size")
    if not isinstance(sides, (list, tuple)) or settings.get("pad") is not None:
        return modality.bind(network)
    wider = [int(side) + max(1, int(side) // MARGIN) for side in sides]
    if settings.get("crop"):
        shorter = settings.get("size")
        settings |= {"crop": wider}
        if isinstance(shorter, int):
            settings["size"] = max(shorter, *wider)
    else:
        settings["size"] = wider
    return modality.bind(replace(network, preprocessing=settings))


@final
class Cells(Examples):
    """Rows of any other kind, encoded when they are asked for."""

    def __init__(self, modality: Modality, arrays: Arrays) -> None:
        self.modality, self.arrays = modality, arrays
        self.count = len(next(iter(arrays.values())))

    @property
    def sizes(self) -> np.ndarray:
        """1 for each."""
        return np.ones(self.count, np.int64)

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return what the modality encodes."""
        return dict(self.modality.encode(take(self.arrays, rows)))
