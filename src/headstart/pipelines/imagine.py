"""Draw pictures: what a text says, or whatever a generator makes of noise."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import UsageError
from headstart.core.files import atomic_file
from headstart.core.pipeline import Pipeline
from headstart.core.registry import require

KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF"}
GAP = 2
"""Pixels between the pictures of a grid."""
MOST = 256


@final
class Imagine(Pipeline):
    """Pictures of a text, or of noise. The same seed gives the same pictures.

    Options: `seed` (None: another one each time, which the answer names); `count` pictures, of the seeds that follow
    one another; `steps` and `guidance` of a diffusion model (None: its own); `truncation` from 0 to 1 of a GAN: how far
    its pictures may be from the average one.
    """

    left_out = "-o FILE.png keeps what was drawn"
    options: Mapping[str, Any] = {"seed": None, "count": 1, "steps": None, "guidance": None, "truncation": None}

    def supports(self, network: Network) -> str:
        """Return why the network draws nothing."""
        return "" if "imagine" in network.backbone.uses else "it draws no pictures"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return for each text `seed`, `width` and `height` in pixels, and `_pictures`, arrays (height, width, 3).

        Args:
            inputs: texts; a generator of noise pays no heed to them.

        Raises:
            UsageError: an option is out of range.
        """
        count, seed = int(options["count"]), options["seed"]
        steps = options["steps"]
        if not 1 <= count <= MOST:
            raise UsageError(f"{count} pictures cannot be drawn.", allowed=f"--count from 1 to {MOST}.")
        if steps is not None and int(steps) < 1:
            raise UsageError(f"{steps} steps draw nothing.", allowed="--steps of 1 and more.")
        first = secrets.randbelow(1 << 31) if seed is None else int(seed)
        if not 0 <= first < 1 << 63:
            raise UsageError(f"The seed is {first}.", allowed="A seed is a whole number of 0 or more.")
        settings = {name: options[name] for name in ("steps", "guidance", "truncation")}
        settings["seeds"] = list(range(first, first + count))
        records = []
        for text in inputs:
            made = [np.ascontiguousarray(each["picture"]) for each in session.generate({}, {**settings, "text": text})]
            height, width = made[0].shape[:2]
            records.append({"seed": first, "count": count, "width": width, "height": height, "_pictures": made})
        return records

    def show(self, record: Mapping[str, Any]) -> str:
        """Return the pictures' size and seed."""
        last = record["seed"] + record["count"] - 1
        seeds = f"seed {record['seed']}" if record["count"] == 1 else f"seeds {record['seed']} to {last}"
        return f"{record['count']} x {record['width']} x {record['height']} pixels, {seeds}"

    def write(self, records: Sequence[Mapping[str, Any]], inputs: Sequence[Any], out: Path) -> bool:
        """Write all pictures as one: alone, or as a grid with a row for each text; .npy keeps them apart."""
        suffix = out.suffix.lower()
        rows = [each["_pictures"] for each in records]
        if suffix == ".npy":
            with atomic_file(out) as part, part.open("wb") as file:
                np.save(file, np.stack([picture for row in rows for picture in row]), allow_pickle=False)
            return True
        if suffix not in KINDS:
            return False
        image = require("PIL.Image", "image").fromarray(grid(rows))
        with atomic_file(out) as part, part.open("wb") as file:
            image.save(file, format=KINDS[suffix])
        return True


def grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return pictures (h, w, 3) as one, a row for each text; the pictures of one text alone in about a square."""
    if len(rows) == 1:
        across = math.ceil(math.sqrt(len(rows[0])))
        rows = [rows[0][start : start + across] for start in range(0, len(rows[0]), across)]
    height = max(each.shape[0] for row in rows for each in row)
    width = max(each.shape[1] for row in rows for each in row)
    across = max(map(len, rows))
    whole = np.full((len(rows) * (height + GAP) - GAP, across * (width + GAP) - GAP, 3), 255, np.uint8)
    for down, row in enumerate(rows):
        for right, each in enumerate(row):
            top, left = down * (height + GAP), right * (width + GAP)
            whole[top : top + each.shape[0], left : left + each.shape[1]] = each
    return whole
