"""Draw boxes onto a picture."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.core.registry import require

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000", "#000075", "#c2185b")
"""Dark enough for white letters; a label always has the same one."""


def drawn(picture: Any, boxes: Sequence[Mapping[str, Any]]) -> Any:
    """Return a copy of a picture with boxes, labels and scores, the best on top.

    Args:
        picture: a `PIL.Image` of mode RGB.
        boxes: each with `label`, `score` and `box`, as `detect` gives them.
    """
    copy = picture.copy()
    pen = require("PIL.ImageDraw", "image").Draw(copy)
    shorter = min(copy.size)
    width, size = max(2, shorter // 200), max(10, shorter // 35)
    font = require("PIL.ImageFont", "image").load_default(size)
    for each in reversed(boxes):
        colour = COLOURS[zlib.crc32(str(each["label"]).encode()) % len(COLOURS)]
        left, top, right, bottom = each["box"]
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
        text = f"{each['label']} {each['score']:.0%}"
        _, _, long, high = pen.textbbox((0, 0), text, font=font)
        x = max(0, min(left, copy.width - long - 4))
        y = top - high - 4 if top > high + 4 else top
        pen.rectangle((x, y, x + long + 4, y + high + 4), fill=colour)
        pen.text((x + 2, y + 1), text, fill="white", font=font)
    return copy
