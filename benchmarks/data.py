"""The real tables that the benchmarks use, from the folder `shared` beside the repository (or HEADSTART_SHARED)."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np

SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).resolve().parents[2] / "shared"))
DATA = SHARED / "data"
MOBILE = SHARED / "weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision_layout.pth"
"""Weights of torchvision:mobilenet_v2."""


def table(name: str) -> list[dict[str, str]]:
    """Return the rows of a table below `shared/data`."""
    if not DATA.is_dir():
        sys.exit(f"There is no {DATA}: the benchmarks need the real tables. Name another place with HEADSTART_SHARED.")
    csv.field_size_limit(10**8)
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def draw(rows: list[dict[str, str]], label: str, count: int, seed: int) -> list[dict[str, str]]:
    """Return `count` rows of each class, drawn by `seed`."""
    rng, labels = np.random.default_rng(seed), np.array([row[label] for row in rows])
    chosen = [rng.permutation(np.flatnonzero(labels == each))[:count] for each in np.unique(labels)]
    return [rows[row] for row in np.concatenate(chosen)]
