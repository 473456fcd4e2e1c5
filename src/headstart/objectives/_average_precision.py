"""COCO's mean average precision of found boxes, as its own tools work it out (pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.core.registry import require

AT = {"map50": 0, "map75": 5}
"""Where in COCO's list of overlaps (.50, .55 … .95) a metric stands."""

MOST, EVERY = 100, 1e10
"""Boxes of a picture that count, the best, and an area that none is above: COCO's own numbers."""


def measured(
    truth: Sequence[Sequence[Mapping[str, Any]]], found: Sequence[Sequence[Mapping[str, Any]]], labels: Sequence[str]
) -> dict[str, Any]:
    """Return `map` (the mean over overlaps of .50 … .95), `map50`, `map75`, and `classes`: each label's own.

    A label without a box in `truth` counts for nothing. Without any box all are 0.

    Args:
        truth: for each picture its boxes: `label` and `box` [left, top, right, bottom].
        found: for each picture what was found there: `score` besides.
        labels: what is looked for; boxes of other labels are left out.

    Raises:
        MissingExtra: pycocotools is not installed.
    """
    coco = require("pycocotools.coco", "detect")
    evaluation = require("pycocotools.cocoeval", "detect")
    number = {label: place + 1 for place, label in enumerate(labels)}
    with contextlib.redirect_stdout(io.StringIO()):  # It reports each step by print.
        given = _data(coco.COCO(), truth, number)
        answers = _data(coco.COCO(), found, number)
        each = evaluation.COCOeval(given, answers, "bbox")
        each.params.maxDets, each.params.areaRng, each.params.areaRngLbl = [MOST], [[0, EVERY]], ["all"]
        each.evaluate()
        each.accumulate()
    # (overlaps, recalls, labels, sizes of boxes, most boxes of a picture); -1 where there is nothing to find.
    precision = np.asarray(each.eval["precision"])[:, :, :, 0, -1]
    present = [place for place in range(len(labels)) if (precision[:, :, place] > -1).any()]
    own = precision.mean(1)[:, present] if present else np.zeros((10, 0))
    count = {label: sum(1 for row in truth for one in row if one["label"] == label) for label in labels}
    return {
        "map": _mean(own),
        **{name: _mean(own[at]) for name, at in AT.items()},
        "classes": [
            {
                "label": labels[place],
                "map": _mean(own[:, at]),
                "map50": _mean(own[0, at]),
                "boxes": count[labels[place]],
            }
            for at, place in enumerate(present)
        ],
    }


def _mean(values: np.ndarray) -> float:
    return round(float(np.mean(values)), 6) if np.size(values) else 0.0


def _data(made: Any, pictures: Sequence[Sequence[Mapping[str, Any]]], number: Mapping[str, int]) -> Any:
    """Fill a COCO data set with boxes; those found have their score."""
    annotations: list[dict[str, Any]] = []
    for picture, boxes in enumerate(pictures):
        for one in boxes:
            if one["label"] in number:
                left, top, right, bottom = (float(edge) for edge in one["box"])
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": picture + 1,
                        "category_id": number[one["label"]],
                        "bbox": [left, top, right - left, bottom - top],
                        "area": (right - left) * (bottom - top),
                        "iscrowd": 0,
                        "score": float(one.get("score", 1.0)),
                    }
                )
    made.dataset = {
        "images": [{"id": picture + 1} for picture in range(len(pictures))],
        "annotations": annotations,
        "categories": [{"id": each} for each in number.values()],
    }
    made.createIndex()
    return made
