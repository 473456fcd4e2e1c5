"""Pictures that are varied for training, and the boxes on them, moved the same way.

A picture is seen through a window: a part of it, or more than it with grey around; mirrored, in other light. Boxes are
(m, 4): left, top, right, bottom in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.core.registry import require
from headstart.modalities import _pixels

GREY = (114, 114, 114)
LEAST_LEFT = 0.4
"""Share of a box that must still be seen for it to be an answer."""
LEAST_SIDE = 2.0
"""Pixels of a box's shorter side, as the network reads it, below which it is no answer."""


@dataclass(frozen=True)
class Vary:
    """How far pictures are varied.

    Args:
        mirror: share of the pictures that are mirrored.
        closer: how many times as large things may become.
        farther: how many times as small.
        stretch: how many times as wide, for their height, or as high for their width.
        light: largest change of brightness, contrast and saturation, as a share.
    """

    mirror: float = 0.5
    closer: float = 1.5
    farther: float = 1.5
    stretch: float = 1.15
    light: float = 0.3


def varied(picture: Any, boxes: np.ndarray, vary: Vary, generator: np.random.Generator) -> tuple[Any, np.ndarray]:
    """Return another picture of the same things, and their boxes on it, which may reach beyond its edges.

    Args:
        picture: a `PIL.Image` of mode RGB.
        boxes: (m, 4)
    """
    # All numbers are drawn, whatever is done with them, so that one setting does not change the others' draws.
    zoom, stretch, across, down, mirror, *light = generator.random(8)
    times = vary.closer**zoom * vary.farther ** (zoom - 1)
    wider = vary.stretch ** (2 * stretch - 1)
    width, height = picture.width / times / wider**0.5, picture.height / times * wider**0.5
    left, top = across * (picture.width - width), down * (picture.height - height)
    window = [round(each) for each in (left, top, left + max(width, 1), top + max(height, 1))]
    picture, boxes = seen(picture, boxes, (window[0], window[1], window[2], window[3]))
    if mirror < vary.mirror:
        picture, boxes = mirrored(picture, boxes)
    return _lit(picture, [1 + vary.light * (2 * each - 1) for each in light]), boxes


def seen(picture: Any, boxes: np.ndarray, window: tuple[int, int, int, int]) -> tuple[Any, np.ndarray]:
    """Return what is seen through a window (left, top, right, bottom), grey beyond the picture, and the boxes there."""
    left, top, right, bottom = window
    if left >= 0 and top >= 0 and right <= picture.width and bottom <= picture.height:
        part = picture.crop(window)
    else:
        part = require("PIL.Image", "image").new("RGB", (right - left, bottom - top), GREY)
        part.paste(picture, (-left, -top))
    return part, boxes - np.array([left, top, left, top], np.float64)


def mirrored(picture: Any, boxes: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return a picture's mirror image, and the boxes on it."""
    turned = require("PIL.ImageOps", "image").mirror(picture)
    return turned, np.stack([picture.width - boxes[:, 2], boxes[:, 1], picture.width - boxes[:, 0], boxes[:, 3]], 1)


def _lit(picture: Any, factors: list[float]) -> Any:
    enhance = require("PIL.ImageEnhance", "image")
    for kind, factor in zip((enhance.Brightness, enhance.Contrast, enhance.Color), factors, strict=True):
        picture = kind(picture).enhance(factor)
    return picture


def read(
    picture: Any, boxes: np.ndarray, preprocessing: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a picture's pixels (3, height, width), its boxes in them, and which boxes those are.

    Boxes are cut off at the edges; those of which too little is seen are left out.
    """
    pixels = _pixels.pixels([picture], preprocessing)[0]
    where = _pixels.placement(picture.size, preprocessing)
    scale = np.array([where.width / picture.width, where.height / picture.height] * 2, np.float64)
    placed = boxes * scale + np.array([where.left, where.top] * 2, np.float64)
    low = np.maximum([0.0, 0.0], [where.left, where.top])
    high = np.minimum(where.canvas[::-1], [where.left + where.width, where.top + where.height])
    cut = np.clip(placed, np.tile(low, 2), np.tile(high, 2))
    sides = cut[:, 2:] - cut[:, :2]
    area = np.maximum((placed[:, 2:] - placed[:, :2]).prod(1), 1e-9)
    kept = np.flatnonzero((sides.min(1) >= LEAST_SIDE) & (sides.prod(1) >= LEAST_LEFT * area))
    return pixels, cut[kept].astype(np.float32), kept
