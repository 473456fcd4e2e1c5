"""Recordings, from one column of files."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.backbone import Network
from headstart.core.blob import content
from headstart.core.dataset import is_blank, table_rows
from headstart.core.errors import DataError, listed
from headstart.core.modality import Modality
from headstart.core.source import Table
from headstart.modalities import _samples, _spectra


def _example() -> str:
    """Return a tenth of a second of a tone as a data: URL, for the server's documentation."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(4000)
        out.writeframes(bytes([128, 255, 128, 0] * 100))
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


@final
class Audio(Modality):
    """The recording of a row: a file, its bytes, a data: URL, or, in Python, `{"samples": array, "rate": number}`.

    `prepare` gives `audio` (n,), the cells; `encode` gives `samples`, flat, and `lengths` (n,) at the network's own
    rate, or `mel` (n, bands, frames) where it reads spectra. No more than a minute of each recording is encoded.
    """

    pretrained = True
    files = True
    at_once = 16

    def __init__(self, columns: Sequence[str], preprocessing: Mapping[str, Any] | None = None) -> None:
        if len(columns) != 1:
            raise DataError(
                f"{len(columns)} columns hold recordings: {listed(columns)}.", hint="Name one of them with --input."
            )
        self._columns, self.preprocessing = tuple(columns), preprocessing

    @property
    def columns(self) -> Sequence[str]:
        """The column of recordings."""
        return self._columns

    @classmethod
    def fit(cls, table: Table, columns: Sequence[str], kinds: Mapping[str, str]) -> Audio:
        """Remember the column; there is nothing to learn."""
        return cls(columns)

    def spec(self) -> dict[str, Any]:
        """Return the column."""
        return {"columns": list(self._columns)}

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Audio:
        """Make the modality from its spec."""
        return cls(spec["columns"])

    def bind(self, network: Network) -> Audio:
        """Return this modality with the rate and the features that the network was trained with."""
        return Audio(self._columns, network.preprocessing)

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return a data: URL for the column."""
        return {
            name: {
                "type": "string",
                "format": "data-url",
                "description": "A recording (wav, flac, mp3, ogg) as a data: URL: data:audio/wav;base64,…",
                "examples": [_example()],
            }
            for name in self._columns
        }

    def prepare(self, table: Table) -> dict[str, np.ndarray]:
        """Return `audio` (n,), the cells as they are."""
        cells = np.empty(table_rows(table), dtype=object)
        cells[:] = table.get(self._columns[0], [None] * len(cells))
        return {"audio": cells}

    def encode(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `samples` (flat) and `lengths` (n,), or `mel` (n, bands, frames).

        Raises:
            DataError: a recording cannot be read.
        """
        if self.preprocessing is None:
            raise TypeError("This audio modality is not bound to a network.")
        rate = _samples.sampling_rate(self.preprocessing)
        made = [_samples.recording(cell, rate, _samples.LONGEST) for cell in arrays["audio"]]
        return _samples.encode(made, self.preprocessing)

    def contents(self, arrays: Arrays) -> Sequence[str | bytes]:
        """Return the bytes of each recording's file, or of its samples."""
        return [_bytes(cell) for cell in arrays["audio"]]

    def unreadable(self, table: Table) -> dict[int, str]:
        """Return the rows whose recording cannot be decoded, with the reason."""
        reasons = {}
        for row, cell in enumerate(self.prepare(table)["audio"]):
            try:
                for _ in _samples.pieces(cell, _spectra.RATE) if not is_blank(cell) else ():
                    pass
            except DataError as error:
                reasons[row] = error.problem
        return reasons

    def handcrafted(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `audio_handcrafted` (n, d) float32: mel-frequency cepstra (MFCC) and how they move."""
        made = [_spectra.cepstra(_samples.recording(cell, _spectra.RATE, _samples.LONGEST)) for cell in arrays["audio"]]
        width = len(_spectra.cepstra(np.zeros(_spectra.RATE, np.float32)))
        return {"audio_handcrafted": np.stack(made) if made else np.zeros((0, width), np.float32)}


def _bytes(cell: Any) -> bytes:
    if is_blank(cell):
        return b""
    if isinstance(cell, Mapping) and ("samples" in cell or "array" in cell):
        samples, rate = _samples.from_array(cell)
        return rate.to_bytes(8, "little") + samples.tobytes()
    return content(cell)
