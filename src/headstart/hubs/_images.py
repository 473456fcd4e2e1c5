"""How transformers and timm write down what they do to a picture, in the words of `modalities/_pixels.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from headstart.core.backbone import CHANNELS

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the ways to resize."""
OTHER = {CHANNELS[each]: each for each in ("grey", "rgbx")}
"""What networks read that do not read three colours, by how many channels they have."""
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def of_transformers(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preprocessing of a `preprocessor_config.json`."""
    size, longest = _size(told.get("size", 224) if told.get("do_resize", True) else None, told)
    crop = _pair(told.get("crop_size", size)) if told.get("do_center_crop") else None
    share = told.get("crop_pct")
    if share and isinstance(size, int):
        # ConvNeXT and its kin: small pictures are cut out of larger ones, large ones are taken whole.
        size, crop = (int(size / share), [size, size]) if size < 384 else ([size, size], None)
    scale = float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 1.0
    made: dict[str, Any] = {
        "size": size,
        "crop": crop,
        "centre": "floor",
        "interpolation": RESAMPLE.get(told.get("resample", 2), "bilinear"),
        "antialias": True,
        "scale": scale,
        "mean": told.get("image_mean") if told.get("do_normalize", True) else None,
        "std": told.get("image_std") if told.get("do_normalize", True) else None,
        "layout": "nchw",
        "channels": "bgr" if told.get("do_flip_channel_order") else "rgb",
        "pad": None,
    }
    return made | ({"longest": longest} if longest else {})


def _size(told: Any, more: Mapping[str, Any]) -> tuple[int | list[int] | None, int | None]:
    """Return a size as one number (shorter side) or [height, width], and the longest side allowed."""
    if isinstance(told, Mapping):
        if "height" in told:
            return [int(told["height"]), int(told["width"])], None
        if "shortest_edge" in told:
            return int(told["shortest_edge"]), told.get("longest_edge") or more.get("max_size")
        return None, None
    if isinstance(told, int):
        # Older files give one number: the shorter side where a square is cut out of it, else both sides.
        whole = not more.get("do_center_crop") and not more.get("crop_pct") and not more.get("max_size")
        return ([told, told] if whole else told), more.get("max_size")
    return (_pair(told) if told else None), None


def _pair(told: Any) -> list[int]:
    if isinstance(told, Mapping):
        return [int(told[name]) for name in ("height", "width")]
    return [int(told)] * 2 if isinstance(told, int) else [int(each) for each in told]


def of_timm(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preprocessing of timm's `pretrained_cfg`."""
    colours, rows, columns = told.get("test_input_size") or told.get("input_size") or (3, 224, 224)
    share = float(told.get("test_crop_pct") or told.get("crop_pct") or 0.875)
    mode = str(told.get("crop_mode") or "center")
    size: int | list[int] = [math.floor(rows / share), math.floor(columns / share)]
    if mode == "center" and rows == columns:
        size = math.floor(rows / share)
    interpolation = str(told.get("interpolation") or "bilinear")
    return {
        "size": size,
        "crop": [int(rows), int(columns)],
        "centre": "round",
        "interpolation": interpolation if interpolation in RESAMPLE.values() else "bicubic",
        "antialias": True,
        "scale": 1 / 255,
        "mean": told.get("mean") or IMAGENET["mean"],
        "std": told.get("std") or IMAGENET["std"],
        "layout": "nchw",
        "channels": OTHER.get(int(colours), "rgb"),
        "pad": None,
    }
