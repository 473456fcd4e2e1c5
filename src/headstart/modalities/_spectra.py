"""Spectra of sound: Whisper's log-mel picture, and hand-crafted cepstra (MFCC) for models made from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

RATE = 16_000
"""Samples per second that hand-crafted features are worked out at."""
WINDOW, HOP, FFT = 400, 160, 512
"""Samples of a window (25 ms), from one window to the next (10 ms), and of its transform."""
BANDS, CEPSTRA = 40, 20
PARTS = 8
"""Stretches of equal length whose cepstra are averaged, so that what comes first and last is told apart."""
SILENCE = 35.0
"""Decibels below the loudest window from which the start and the end of a recording are silence."""

FLOOR = 1e-7
"""Share of the loudest band's power that counts as nothing, so that features do not depend on loudness."""


def log_mel(samples: np.ndarray, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Return the log-mel spectrum (bands, frames) float32 that Whisper reads, cut or filled to its length of time.

    Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022, section 2.2.
    """
    rate, size = int(preprocessing.get("sampling_rate", RATE)), int(preprocessing.get("n_fft", 400))
    hop, bands = int(preprocessing.get("hop_length", 160)), int(preprocessing.get("feature_size", 80))
    length = int(preprocessing.get("chunk_length", 30)) * rate
    filled = np.zeros(length, np.float32)
    filled[: min(len(samples), length)] = samples[:length]
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    framed = np.lib.stride_tricks.sliding_window_view(np.pad(filled, size // 2, mode="reflect"), size)[::hop]
    power = np.abs(np.fft.rfft(framed[:-1] * window, axis=1)) ** 2
    levels = np.log10(np.maximum(_filters(rate, size, bands, 8000.0) @ power.T, 1e-10))
    return ((np.maximum(levels, levels.max() - 8.0) + 4.0) / 4.0).astype(np.float32)


def cepstra(samples: np.ndarray) -> np.ndarray:
    """Return hand-crafted features (d,) float32 of a recording at `RATE`.

    Mel-frequency cepstra of the part between the silences at both ends: their mean, spread, mean speed and the spread
    of their speed; the means of `PARTS` stretches; and the length in seconds (its logarithm).
    """
    if len(samples) < WINDOW + 2 * HOP:
        samples = np.pad(samples, (0, WINDOW + 2 * HOP - len(samples)))
    loud = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    framed = np.lib.stride_tricks.sliding_window_view(loud, WINDOW)[::HOP] * np.hamming(WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(framed, FFT, axis=1)) ** 2
    kept = _trimmed(power.sum(axis=1))
    bands = power[kept] @ _filters(RATE, FFT, BANDS, RATE / 2).T
    levels = np.log(np.maximum(bands, max(float(bands.max()), 1e-12) * FLOOR))
    found = levels @ _cosines()
    found[:, 0] -= found[:, 0].mean()
    speed = np.gradient(found, axis=0) if len(found) > 1 else np.zeros_like(found)
    edges = np.linspace(0, len(found), PARTS + 1)
    parts = [found[int(a) : max(int(np.ceil(b)), int(a) + 1)].mean(axis=0) for a, b in pairwise(edges)]
    pooled = [found.mean(axis=0), found.std(axis=0), np.abs(speed).mean(axis=0), speed.std(axis=0), *parts]
    return np.append(np.concatenate(pooled), np.log(len(found) * HOP / RATE)).astype(np.float32)


def _trimmed(energy: np.ndarray) -> slice:
    level = 10 * np.log10(energy + 1e-12)
    spoken = np.flatnonzero(level > level.max() - SILENCE)
    return slice(int(spoken[0]), int(spoken[-1]) + 1)


def _mel(hertz: np.ndarray) -> np.ndarray:
    """Return Slaney's scale: linear to 1 kHz, 15 mel, and logarithmic above, 27 mel for a factor of 6.4."""
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + 27 * np.log(np.maximum(hertz, 1) / 1000) / np.log(6.4))


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


@cache
def _cosines() -> np.ndarray:
    """Return the first `CEPSTRA` waves of the orthonormal cosine transform, (BANDS, CEPSTRA)."""
    waves = np.cos(np.pi * np.outer(np.arange(BANDS) + 0.5, np.arange(CEPSTRA)) / BANDS) * np.sqrt(2 / BANDS)
    waves[:, 0] /= np.sqrt(2)
    return waves.astype(np.float32)


@cache
def _filters(rate: int, size: int, bands: int, highest: float) -> np.ndarray:
    """Return triangles (bands, size // 2 + 1), equal on the mel scale and of equal area."""
    ends = _mel(np.array([0.0, highest]))
    corners = _hertz(np.linspace(ends[0], ends[1], bands + 2))
    bins = np.linspace(0, rate / 2, size // 2 + 1)
    rise = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    triangles = np.maximum(0, np.minimum(rise, fall)) * (2 / (corners[2:] - corners[:-2]))[:, None]
    return triangles.astype(np.float32)
