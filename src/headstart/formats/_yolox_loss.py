"""YOLOX's loss: which places are to find which boxes (SimOTA), and how far they are from doing so.

Ge et al. 2021 (arXiv:2107.08430), after Ge et al. 2021, OTA (arXiv:2103.14259). Each box takes the few places that
would find it at the least cost, as many as their overlaps with it sum up to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.core.registry import require
from headstart.formats._yolox_layout import STRIDES

torch = require("torch", "yolox")

RADIUS = 2.5
"""Strides from a box's centre within which places may find it."""
BEST = 10
"""Places whose overlaps say how many find a box."""
OVERLAP_COST, OUTSIDE = 3.0, 1e5
BOX_WEIGHT = 5.0
SMALL = 1e-8


def loss(logits: Any, given: Mapping[str, Any]) -> Any:
    """Return the loss () of a batch, for each place that is to find a box: of boxes, of something, of classes.

    Args:
        logits: (n, places, 5 + classes), as `Yolox` gives them.
        given: `pixels` (n, 3, height, width); `boxes` (m, 4) in pixels of it, `classes` (m,) and `counts` (n,).
    """
    logits = logits.float()
    corners, strides = places(given["pixels"].shape[2:], logits.device)
    found = decoded(logits, corners, strides)
    counts = given["counts"].tolist()
    boxes, classes = given["boxes"].float().split(counts), given["classes"].long().split(counts)
    total, positive = logits.sum() * 0.0, 0
    binary = torch.nn.functional.binary_cross_entropy_with_logits
    for row in range(len(counts)):
        something = torch.zeros_like(logits[row, :, 4])
        if counts[row]:
            at, which, overlap = assigned(
                logits[row].detach(), found[row].detach(), boxes[row], classes[row], (corners + 0.5) * strides, strides
            )
            something[at] = 1.0
            positive += len(at)
            shares = torch.nn.functional.one_hot(classes[row][which], logits.shape[2] - 5) * overlap[:, None]
            total = total + BOX_WEIGHT * (1 - paired(found[row, at], boxes[row][which]) ** 2).sum()
            total = total + binary(logits[row, at, 5:], shares, reduction="sum")
        total = total + binary(logits[row, :, 4], something, reduction="sum")
    return total / max(positive, 1)


def places(side: Any, device: Any) -> tuple[Any, Any]:
    """Return corners (places, 2), x and y in strides, and strides (places, 1)."""
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = (-(-int(each) // stride) for each in side)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        corners.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides.append(torch.full((rows * columns, 1), stride))
    return torch.cat(corners).float().to(device), torch.cat(strides).float().to(device)


def decoded(logits: Any, corners: Any, strides: Any) -> Any:
    """Return the boxes (n, places, 4) that the logits stand for: left, top, right, bottom in pixels."""
    middle = (logits[..., :2] + corners) * strides
    half = logits[..., 2:4].clamp(max=20).exp() * strides / 2
    return torch.cat([middle - half, middle + half], -1)


def assigned(logits: Any, found: Any, boxes: Any, classes: Any, centres: Any, strides: Any) -> tuple[Any, Any, Any]:
    """Return which places are to find a box (k,), which box each (k,), and how much they overlap now (k,).

    Args:
        logits: (places, 5 + classes).
        found: (places, 4) the boxes they stand for.
        boxes: (m, 4), at least one.
        classes: (m,)
        centres: (places, 2) of the places, in pixels.
        strides: (places, 1)
    """
    inside, central = _near(boxes, centres, strides)
    able = (inside | central).any(0).nonzero()[:, 0]
    if not len(able):  # A box between all centres: it goes to the nearest place.
        able = torch.cdist(centres, (boxes[:, :2] + boxes[:, 2:]) / 2).argmin(0).unique()
    overlap = across(boxes, found[able])
    likely = (logits[able, 5:].sigmoid() * logits[able, 4:5].sigmoid()).sqrt().clamp(SMALL, 1 - 1e-6)
    missed = -torch.log1p(-likely).sum(1)  # Binary cross-entropy, were the place to find nothing.
    own = likely[:, classes].T
    cost = missed - torch.log(own) + torch.log1p(-own) - OVERLAP_COST * torch.log(overlap + SMALL)
    cost = cost + OUTSIDE * ~(inside & central)[:, able]
    wanted = overlap.topk(min(BEST, overlap.shape[1]), dim=1).values.sum(1).int().clamp(min=1)
    taken = torch.zeros_like(cost, dtype=torch.bool)
    for number, many in enumerate(wanted.tolist()):
        taken[number, cost[number].topk(min(many, cost.shape[1]), largest=False).indices] = True
    cheapest = torch.zeros_like(taken).scatter_(0, cost.argmin(0, keepdim=True), True)
    taken = torch.where(taken.sum(0) > 1, cheapest, taken)
    chosen = taken.any(0).nonzero()[:, 0]
    which = taken[:, chosen].int().argmax(0)
    return able[chosen], which, overlap[which, chosen]


def _near(boxes: Any, centres: Any, strides: Any) -> tuple[Any, Any]:
    """Return (boxes, places) whether a place is inside a box, and whether it is near its centre."""
    x, y = centres[:, 0], centres[:, 1]
    left, top, right, bottom = (each[:, None] for each in boxes.unbind(1))
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    reach = RADIUS * strides[:, 0]
    central = ((x - (left + right) / 2).abs() < reach) & ((y - (top + bottom) / 2).abs() < reach)
    return inside, central


def across(one: Any, other: Any) -> Any:
    """Return the intersection over union of each box (m, 4) with each other (k, 4): (m, k)."""
    return paired(one[:, None], other[None])


def paired(one: Any, other: Any) -> Any:
    """Return the intersection over union of boxes (…, 4) with others, pair by pair."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (each[..., 2:] - each[..., :2] for each in (one, other))
    both = sum(each.clamp(min=0).prod(-1) for each in areas)
    return shared / (both - shared).clamp(min=SMALL)
