"""What MiniLM is asked in the serving benchmarks: a fitted bundle, and texts of very different lengths."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
from _servers import headstart
from data import DATA, draw, table, write


def bundle_of(path: str | None, scratch: Path, rows: int = 10) -> str:
    """Return the bundle at a path, or one fitted on so many rows of each class of banking77."""
    if path is not None:
        return path
    train = write(scratch / "train.csv", draw(table("banking77/train.csv"), "category", rows, 0))
    command = headstart("fit", train, "--target", "category", "--input", "text", "--curve", "off", "--offline")
    subprocess.run([*command, "--out", str(scratch / "bundle"), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return str(scratch / "bundle")


def mixed_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts, no two alike, in random order: half are questions to a bank, half are passages of 1 to 8 lines of
    medical abstracts.
    """
    rng = np.random.default_rng(seed)
    short = sorted({row["text"] for row in table("banking77/train.csv")})
    lines = (DATA / "medical_abstracts" / "bc5cdr_train.txt").read_text(encoding="utf-8").splitlines()
    long: list[str] = []
    start = 0
    while len(long) < count // 2:
        taken = min(int(rng.geometric(0.3)), 8)
        long.append(" ".join(lines[each % len(lines)] for each in range(start, start + taken)) + f" ({len(long)})")
        start += taken
    picked = [short[each % len(short)] for each in rng.permutation(len(short))[: count - len(long)]]
    return [(picked + long)[each] for each in rng.permutation(len(picked) + len(long))]


def as_bodies(texts: list[str]) -> list[bytes]:
    """Return each text as a JSON body, which headstart reads as the cell of the main column."""
    return [json.dumps(text).encode() for text in texts]
