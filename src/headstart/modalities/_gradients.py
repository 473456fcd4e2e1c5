"""Hand-crafted features of pictures: what could be learnt from before networks were pretrained."""

from __future__ import annotations

import numpy as np

CELL, BINS, COLOURS = 8, 9, 8
"""Pixels of a cell, orientations of its histogram, and steps of each colour channel's histogram."""
BLOCK = 512
"""Pictures worked on at a time."""


def features(thumbnails: np.ndarray) -> np.ndarray:
    """Return (n, d) float32 of small pictures (n, side, side, 3) uint8.

    Histograms of oriented gradients over cells, normalised over blocks of 2 x 2 (Dalal & Triggs, 2005), and histograms
    of brightness and the two opponent colours over the quarters of the picture.
    """
    parts = [_features(thumbnails[start : start + BLOCK]) for start in range(0, len(thumbnails), BLOCK)]
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def _features(thumbnails: np.ndarray) -> np.ndarray:
    x = thumbnails.astype(np.float32) / 255
    return np.concatenate([_oriented(x), _colours(x)], axis=1)


def _oriented(x: np.ndarray) -> np.ndarray:
    down, across = np.gradient(x, axis=1), np.gradient(x, axis=2)
    strength = np.hypot(down, across)
    # The channel of the steepest slope speaks for the pixel.
    steepest = strength.argmax(axis=3)[..., None]
    down, across = (np.take_along_axis(each, steepest, 3)[..., 0] for each in (down, across))
    strength = np.sqrt(np.take_along_axis(strength, steepest, 3)[..., 0])
    angle = np.mod(np.arctan2(down, across), np.pi) * (BINS / np.pi) - 0.5
    low = np.floor(angle).astype(np.int64)
    share = angle - low
    rows, side = len(x), x.shape[1] // CELL
    cells = np.zeros((rows, side, side, BINS), np.float32)
    for number, weight in ((low % BINS, 1 - share), ((low + 1) % BINS, share)):
        for each in range(BINS):
            kept = np.where(number == each, weight * strength, 0)
            cells[..., each] += kept.reshape(rows, side, CELL, side, CELL).sum(axis=(2, 4))
    blocks = np.concatenate([cells[:, i : side - 1 + i, j : side - 1 + j] for i in (0, 1) for j in (0, 1)], axis=3)
    blocks /= np.linalg.norm(blocks, axis=3, keepdims=True) + 1e-3
    return blocks.reshape(rows, -1)


def _colours(x: np.ndarray) -> np.ndarray:
    red, green, blue = x[..., 0], x[..., 1], x[..., 2]
    channels = ((red + green + blue) / 3, (red - green + 1) / 2, ((red + green) / 2 - blue + 1) / 2)
    half = x.shape[1] // 2
    parts = []
    for channel in channels:
        step = np.minimum((channel * COLOURS).astype(np.int64), COLOURS - 1)
        for quarter in (step[:, :half, :half], step[:, :half, half:], step[:, half:, :half], step[:, half:, half:]):
            parts += [(quarter == each).mean(axis=(1, 2)) for each in range(COLOURS)]
    return np.sqrt(np.stack(parts, axis=1)).astype(np.float32)


def fingerprints(thumbnails: np.ndarray) -> np.ndarray:
    """Return unit vectors (n, 256) of small pictures: brightness of a 16 x 16 copy about its mean.

    The product of two of them is their normalised cross-correlation; brightness and contrast do not count.
    """
    rows, side = len(thumbnails), thumbnails.shape[1]
    grey = thumbnails.astype(np.float32).mean(axis=3)
    small = grey.reshape(rows, 16, side // 16, 16, side // 16).mean(axis=(2, 4)).reshape(rows, 256)
    small -= small.mean(axis=1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
