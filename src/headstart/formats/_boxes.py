"""Which of the boxes that a transformer proposes are given, and where they are in the picture (DETR's family)."""

from __future__ import annotations

import numpy as np

EACH_CLASS = ("conditional_detr", "d_fine", "dab-detr", "deformable_detr", "rt_detr", "rt_detr_v2")
"""Detectors that judge each class of a box by itself; the others give one class to each box, or none."""
AS_MANY = ("d_fine", "rt_detr", "rt_detr_v2")
"""Those that give as many boxes as they look for; the others give `MOST`."""
MOST = 100


def proposed(logits: np.ndarray, boxes: np.ndarray, sides: tuple[int, int], kind: str) -> dict[str, np.ndarray]:
    """Return every box that a network proposes, best first within each picture; most have a low score.

    Args:
        logits: (n, queries, classes).
        boxes: (n, queries, 4), middle and size as shares of the picture's sides.
        sides: height and width of the pictures.
        kind: what transformers calls the architecture.

    Returns:
        boxes (m, 4) left, top, right, bottom in pixels, scores (m,), classes (m,) and counts (n,).
    """
    logits = np.asarray(logits, np.float32)
    if kind in EACH_CLASS:
        shares = (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).reshape(len(logits), -1)
        most = min(logits.shape[1] if kind in AS_MANY else MOST, shares.shape[1])
        order = np.argsort(-shares, axis=1, kind="stable")[:, :most]
        scores, classes = np.take_along_axis(shares, order, 1), order % logits.shape[2]
        queries = order // logits.shape[2]
    else:
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares = (shares / shares.sum(axis=-1, keepdims=True))[..., :-1]  # the last class stands for nothing
        best = shares.max(axis=-1)
        queries = np.argsort(-best, axis=1, kind="stable")
        scores = np.take_along_axis(best, queries, 1)
        classes = np.take_along_axis(shares.argmax(axis=-1), queries, 1)
    chosen = np.take_along_axis(np.asarray(boxes, np.float32), queries[..., None], 1)
    middle, half = chosen[..., :2], chosen[..., 2:] / 2
    edges = np.concatenate([middle - half, middle + half], -1) * np.array([sides[1], sides[0]] * 2, np.float32)
    return {
        "boxes": edges.reshape(-1, 4),
        "scores": scores.reshape(-1),
        "classes": classes.reshape(-1),
        "counts": np.full(len(scores), scores.shape[1]),
    }
