"""Small pictures of coloured shapes with their boxes, drawn from a seed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
ImageDraw = pytest.importorskip("PIL.ImageDraw")

COLOURS = {"disc": (200, 30, 40), "square": (30, 60, 200)}


def drawn(seed: int, side: int = 64, least: int = 16) -> tuple[bytes, list[dict[str, Any]]]:
    """Return a picture's bytes and its boxes: a disc and a square, apart from each other."""
    generator = np.random.default_rng(seed)
    picture = Image.new("RGB", (side * 2, side), (235, 235, 225))
    draw, boxes = ImageDraw.Draw(picture), []
    for place, label in enumerate(generator.permutation(list(COLOURS)).tolist()):
        length = int(generator.integers(least, side // 2))
        left = int(generator.integers(0, side - length)) + place * side
        top = int(generator.integers(0, side - length))
        sides = [left, top, left + length, top + length]
        # Pillow's last pixel is drawn too.
        to = [left, top, left + length - 1, top + length - 1]
        (draw.ellipse if label == "disc" else draw.rectangle)(to, fill=COLOURS[label])
        boxes.append({"label": label, "box": sides})
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue(), boxes


def table(count: int, **options: int) -> dict[str, list[Any]]:
    """Return a table of such pictures."""
    made = [drawn(seed, **options) for seed in range(count)]
    return {"image": [picture for picture, _ in made], "boxes": [boxes for _, boxes in made]}
