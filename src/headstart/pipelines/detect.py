"""Find things in a picture: boxes with labels and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import UsageError, listed
from headstart.core.files import atomic_file
from headstart.core.pipeline import Pipeline
from headstart.modalities import _pixels
from headstart.modalities.image import opened
from headstart.pipelines._draw import drawn

NOTHING = ("", "N/A", "__background__", "no-object")
"""Names of classes that stand for no thing."""
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Suffixes that a drawn picture can be written under."""


@final
class Detect(Pipeline):
    """Boxes in pixels of the picture as it stands upright, from the left and from the top, best first."""

    options: Mapping[str, Any] = {"threshold": 0.5}

    def supports(self, network: Network) -> str:
        """Return why the network gives no boxes."""
        return "" if "detect" in network.backbone.uses else "it gives no boxes"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return for each picture `boxes`: a list of `label`, `score` and `box`, [left, top, right, bottom]."""
        threshold = float(options["threshold"])
        if not 0 <= threshold <= 1:
            raise UsageError(f"The threshold is {threshold}.", allowed="A share from 0 to 1.")
        records = []
        for given in inputs:
            picture = opened(given, 0)
            # One at a time: pictures of several shapes do not fit into one array, and keep their own size here.
            found = session.run({"pixels": _pixels.pixels([picture], network.preprocessing)})
            records.append({"boxes": _records(network, found, picture.size, threshold)})
        return records

    def show(self, record: Mapping[str, Any]) -> str:
        """Return a line for each box."""
        lines = [
            f"{each['score']:8.2%}  {each['label']:<16} " + " ".join(f"{edge:7.1f}" for edge in each["box"])
            for each in record["boxes"]
        ]
        return "\n".join(lines) or "nothing found; --threshold sets the least score"

    def write(self, records: Sequence[Mapping[str, Any]], inputs: Sequence[Any], out: Path) -> bool:
        """Write the picture with its boxes drawn onto it; other suffixes are tables.

        Raises:
            UsageError: there are several pictures.
        """
        kind = PICTURES.get(out.suffix.lower())
        if kind is None:
            return False
        if len(records) != 1:
            raise UsageError(
                f"{len(records)} pictures cannot be written to '{out}'.",
                allowed=f"One picture as {listed(PICTURES)}; many as a table: .jsonl, .csv, .parquet.",
                hint="Give one picture, or -o boxes.jsonl.",
            )
        with atomic_file(out) as part:
            drawn(opened(inputs[0], 0), records[0]["boxes"]).save(part, format=kind)
        return True


def _records(
    network: Network, found: Mapping[str, np.ndarray], size: tuple[int, int], threshold: float
) -> list[dict[str, Any]]:
    keep = found["scores"] >= threshold
    boxes, scores, classes = found["boxes"][keep], found["scores"][keep], found["classes"][keep]
    overlap = network.config.get("overlap")
    if overlap:
        chosen = distinct(boxes, scores, classes, float(overlap))
        boxes, scores, classes = boxes[chosen], scores[chosen], classes[chosen]
    boxes = _back(boxes, size, network.preprocessing)
    made = []
    for at in np.argsort(-scores, kind="stable"):
        number = int(classes[at])
        name = str(network.labels[number]) if number < len(network.labels) else str(number)
        if name not in NOTHING:
            edges = [round(float(edge), 2) for edge in boxes[at]]
            made.append({"label": name, "score": round(float(scores[at]), 6), "box": edges})
    return made


def _back(boxes: np.ndarray, size: tuple[int, int], preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Return boxes of the network's input as boxes of the picture, cut off at its edges."""
    where = _pixels.placement(size, preprocessing)
    shift = np.array([where.left, where.top] * 2, np.float64)
    scale = np.array([size[0] / where.width, size[1] / where.height] * 2, np.float64)
    return np.clip((boxes - shift) * scale, 0, np.array(size * 2, np.float64))


def distinct(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, overlap: float) -> np.ndarray:
    """Return which boxes stay, best first, when those that overlap a better one of their class are dropped.

    Args:
        boxes: (m, 4) left, top, right, bottom.
        scores: (m,)
        classes: (m,)
        overlap: largest intersection over union of two boxes that stay.

    >>> boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    >>> distinct(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 0, 0]), 0.5).tolist()
    [0, 2]
    """
    left, top, right, bottom = boxes.T.astype(np.float64)
    area = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        across = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        down = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        union = np.maximum(area[best] + area[rest] - shared, 1e-12)
        order = rest[(shared / union <= overlap) | (classes[rest] != classes[best])]
    return np.array(kept, np.int64)
