"""Recordings with what is said in them, as networks learn from them: varied with each pass, alike for one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, final

import numpy as np

from headstart.core.course import Examples
from headstart.core.errors import DataError
from headstart.modalities import _samples

KEPT = 512 << 20
"""Bytes of samples that are kept in memory; the recordings behind them are decoded anew each time."""
SPEED = 0.12
"""Share by which a recording is played faster or slower at most; its pitch changes too."""
NOISE = (10.0, 40.0)
"""Decibels that a recording is louder than the noise added to it."""
GAIN = 6.0
"""Decibels by which a recording is made louder or quieter at most."""
OFTEN = {"speed": 0.8, "noise": 0.5, "gain": 0.8}
"""How often each is done."""
FRAME = 320
"""Samples that count as one of `sizes`."""


def varied(samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return a recording as it might have been: at another speed, loudness, and in noise.

    Source: Ko et al., Audio Augmentation for Speech Recognition, 2015, for the speed.
    """
    chance = rng.random(3)
    speed, decibels, gain = 1 + SPEED * rng.uniform(-1, 1), rng.uniform(*NOISE), GAIN * rng.uniform(-1, 1)
    if chance[0] < OFTEN["speed"]:
        samples = _samples.resample(samples, round(rate * speed), rate)
    if chance[1] < OFTEN["noise"]:
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) * 10 ** (-decibels / 20)
        samples = samples + (level * rng.standard_normal(len(samples))).astype(np.float32)
    if chance[2] < OFTEN["gain"]:
        samples = samples * np.float32(10 ** (gain / 20))
    return samples


@final
class Recordings(Examples):
    """Recordings, and the tokens of what is said in them.

    Args:
        cells: recordings.
        tokens: the numbers that a network is to write for each recording.
        preprocessing: the network's.
        seed: of what is varied.
        frames: how many frames a network that spells makes of so many samples; None where it writes otherwise.
    """

    def __init__(
        self,
        cells: Sequence[Any],
        tokens: Sequence[Sequence[int]],
        preprocessing: Mapping[str, Any],
        seed: int,
        frames: Callable[[int], int] | None = None,
    ) -> None:
        self.cells, self.tokens, self.preprocessing, self.seed = cells, tokens, preprocessing, seed
        self.rate, self.frames = _samples.sampling_rate(preprocessing), frames
        self._kept: dict[int, np.ndarray] = {}
        self._bytes = 0
        spectra = _samples.reads_spectra(preprocessing)
        self._sizes = np.array([1 if spectra else self._size(row) for row in range(len(cells))], np.int64)

    @property
    def sizes(self) -> np.ndarray:
        """How long each row is (n,), in units of 20 ms; 1 where all are filled up to one length."""
        return self._sizes

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return `samples` (flat) or `mel` (n, bands, frames), `lengths`, `tokens` (flat) and `tokens_lengths` (n,).

        Raises:
            DataError: a recording cannot be read.
        """
        made = []
        for row in rows.tolist():
            samples = self._recording(row)
            if epoch is not None:
                other = varied(samples, self.rate, np.random.default_rng([self.seed, epoch, row]))
                samples = other if self._fits(len(other), self.tokens[row]) else samples
            made.append(samples)
        said = [self.tokens[row] for row in rows.tolist()]
        return {
            **_samples.encode(made, self.preprocessing),
            "tokens": np.array([token for tokens in said for token in tokens], np.int64),
            "tokens_lengths": np.array([len(tokens) for tokens in said], np.int64),
        }

    def _recording(self, row: int) -> np.ndarray:
        if row in self._kept:
            return self._kept[row]
        samples = _samples.recording(self.cells[row], self.rate)
        if self._bytes + samples.nbytes <= KEPT:
            self._kept[row] = samples
            self._bytes += samples.nbytes
        return samples

    def _size(self, row: int) -> int:
        try:
            return max(1, -(-len(self._recording(row)) // FRAME))
        except DataError:
            return 1

    def _fits(self, length: int, tokens: Sequence[int]) -> bool:
        """Return whether there is a frame for each token, and one more between two that are alike."""
        return self.frames is None or len(tokens) + sum(a == b for a, b in pairwise(tokens)) <= self.frames(length)
