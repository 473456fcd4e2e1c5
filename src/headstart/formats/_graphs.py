"""Saved graphs of image networks: from what they give to the arrays that `core/pipeline.py` lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headstart.core.backbone import Network
from headstart.core.errors import HubError

LIBRARIES = ("onnx", "tflite", "tensorflow")
"""What graphs are called in `Network.library`."""
LEAST_SCORE = 0.01
"""Boxes below this score are dropped at once: of thousands of places, most hold nothing."""


def unsupported(network: Network) -> str:
    """Return an empty string for a graph whose layout is known, else why not."""
    if network.library not in LIBRARIES:
        return f"its library is '{network.library}', which is no saved graph"
    return "" if "layout" in network.config else "it is not known what its inputs and outputs mean"


def run(network: Network, infer: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return a graph's outputs as named arrays.

    Args:
        infer: runs the graph: one batch of pixels in, its first output out.
        pixels: all pictures. Graphs that were saved for one picture get one at a time.
    """
    size = 1 if network.config.get("fixed") else max(1, len(pixels))
    given = np.concatenate([np.array(infer(pixels[at : at + size])) for at in range(0, len(pixels), size)])
    if network.use == "detect":
        return _boxes(network, given.astype(np.float32), _side(network, pixels))
    if given.ndim == 4:
        last = network.preprocessing.get("layout") == "nhwc"
        given = given.mean((1, 2) if last else (2, 3))
    flat = given.reshape(len(given), -1).astype(np.float32)
    if network.use == "embed":
        return {"embedding": flat}
    if flat.min() >= 0 and np.allclose(flat.sum(1), 1, atol=0.02):
        return {"probabilities": flat}
    return {"logits": flat}


def _side(network: Network, pixels: np.ndarray) -> tuple[int, int]:
    rows, columns = pixels.shape[1:3] if network.preprocessing.get("layout") == "nhwc" else pixels.shape[2:4]
    return int(rows), int(columns)


def _boxes(network: Network, given: np.ndarray, side: tuple[int, int]) -> dict[str, np.ndarray]:
    decode = {"yolox": _yolox, "yolov5": _yolov5, "yolov8": _yolov8}.get(str(network.config.get("layout")))
    if decode is None:
        raise HubError(f"'{network.backbone.reference}' gives no boxes.", hint="Leave --task out.")
    boxes, scores, classes, counts = [], [], [], []
    for row in given:
        centres, shares = decode(row, side, network.config)
        best = shares.argmax(1)
        score = shares[np.arange(len(shares)), best]
        keep = np.flatnonzero(score >= LEAST_SCORE)
        keep = keep[np.argsort(-score[keep], kind="stable")]
        middle, half = centres[keep, :2], centres[keep, 2:] / 2
        boxes.append(np.concatenate([middle - half, middle + half], 1))
        scores.append(score[keep])
        classes.append(best[keep])
        counts.append(len(keep))
    return {
        "boxes": np.concatenate(boxes).astype(np.float32),
        "scores": np.concatenate(scores).astype(np.float32),
        "classes": np.concatenate(classes).astype(np.int64),
        "counts": np.array(counts, np.int64),
    }


def _yolox(row: np.ndarray, side: tuple[int, int], config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Decode YOLOX (Ge et al. 2021, arXiv 2107.08430): offsets from each cell, in its stride; sizes as logarithms."""
    corners, steps = _cells(side, config["strides"])
    centres = np.concatenate([(row[:, :2] + corners) * steps, np.exp(np.minimum(row[:, 2:4], 20)) * steps], 1)
    return centres, row[:, 5:] * row[:, 4:5]


def _yolov5(row: np.ndarray, side: tuple[int, int], config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Read exported YOLOv5: centre, size, objectness, classes, decoded already."""
    return row[:, :4], row[:, 5:] * row[:, 4:5]


def _yolov8(row: np.ndarray, side: tuple[int, int], config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Read exported YOLOv8 and later: centre, size, classes, a column for each place."""
    return row[:4].T, row[4:].T


def _cells(side: tuple[int, int], strides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    corners, steps = [], []
    for stride in strides:
        rows, columns = np.mgrid[: -(-side[0] // stride), : -(-side[1] // stride)]
        corners.append(np.stack([columns.ravel(), rows.ravel()], 1))
        steps.append(np.full((rows.size, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(steps).astype(np.float32)
