"""Saved graphs of image networks (ONNX, SavedModel, TFLite): what they are, seen from their inputs and outputs.

What a graph does to its pixels first is not written in it. `preprocessing.json` beside the file says so, in the words
of `modalities/_pixels.py`; without it, the usual of its kind is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError, listed
from headstart.hubs import _names, _vision
from headstart.hubs._folder import digest
from headstart.hubs._json import read_json
from headstart.hubs._signatures import Port, Signature, of_onnx, of_saved_model, of_tflite

READERS: Mapping[str, Callable[[Path], Signature]] = {
    "onnx": of_onnx,
    "tflite": of_tflite,
    "tensorflow": of_saved_model,
}
"""What reads a signature, by `Network.library`."""
SETTINGS = "preprocessing.json"
STRIDES = (8, 16, 32)
PAD = 114
"""The grey around a picture that YOLO networks were trained with."""
OVERLAP = 0.45
"""Intersection over union above which YOLO's own tools take two boxes of a class for one thing."""
USUAL_SIDE = 224
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def open_graph(path: Path, backbone: Backbone, library: str, told: Mapping[str, Any] | None = None) -> Network:
    """Return the image network that a saved graph is.

    Args:
        path: the file, or the SavedModel folder.
        backbone: the reference that led here.
        library: `onnx`, `tflite` or `tensorflow`.
        told: what its hub knows of its preprocessing; `preprocessing.json` goes before it.

    Raises:
        HubError: it cannot be read, or is not seen to be an image network.
    """
    signature = READERS[library](path)
    port = next((each for each in signature.inputs if len(each.shape) == 4), None)
    if port is None or len(signature.inputs) > 1:
        raise _unknown(path, signature)
    preprocessing, side = _usual(port, library)
    layout, classes = _outputs(signature, side)
    if layout == "unknown":
        raise _unknown(path, signature)
    if layout in ("yolox", "yolov5", "yolov8"):
        preprocessing |= _of_yolo(layout, side)
    names = _vision.class_names(path, _names.known(classes))
    config: dict[str, Any] = {"layout": layout, "input": port.name, "fixed": port.shape[0] == 1}
    if layout.startswith("yolo"):
        config |= {"classes": classes, "overlap": OVERLAP, "strides": list(STRIDES)}
    preprocessing |= dict(told or {})
    own = path / SETTINGS if path.is_dir() else path.with_name(SETTINGS)
    if own.is_file():
        preprocessing |= read_json(own)
    return Network(
        folder=path if path.is_dir() else path.parent,
        architecture=layout,
        config=config,
        weights=path,
        backbone=replace(
            backbone,
            checksum=_digest(path, backbone),
            modality="image",
            width=0 if layout.startswith("yolo") else classes,
            size=sum(each.stat().st_size for each in path.rglob("*")) if path.is_dir() else path.stat().st_size,
            cached=True,
            uses=backbone.uses or _uses(layout, bool(names)),
        ),
        preprocessing=preprocessing,
        library=library,
        labels=names,
    )


def _digest(path: Path, backbone: Backbone) -> str:
    if path.is_dir():
        return digest(sorted(each for each in path.rglob("*") if each.is_file()))
    return _vision.verified(backbone, path)


def _uses(layout: str, named: bool) -> tuple[str, ...]:
    if layout.startswith("yolo"):
        return ("detect",)
    if layout == "maps":
        return ("embed",)
    return ("classify", "embed") if named else ("embed", "classify")


def _usual(port: Port, library: str) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return the preprocessing that is usual for such an input, and its height and width."""
    last = port.shape[3] == 3 and port.shape[1] != 3
    rows, columns = (port.shape[1:3] if last else port.shape[2:4]) or (0, 0)
    side = (rows or USUAL_SIDE, columns or USUAL_SIDE)
    made: dict[str, Any] = {
        "size": list(side),
        "crop": None,
        "interpolation": "bilinear",
        "antialias": True,
        "layout": "nhwc" if last else "nchw",
        "channels": "rgb",
        "scale": 1 / 255,
    }
    if library == "tflite":
        # Keras and TFLite graphs most often hold their own scaling and read 0 … 255.
        return made | {"scale": 1.0}, side
    if library == "tensorflow":
        return made, side
    shorter = round(min(side) / 0.875)
    whole = {"size": shorter, "crop": list(side)} if side[0] == side[1] else {}
    return made | whole | IMAGENET, side


def _of_yolo(layout: str, side: tuple[int, int]) -> dict[str, Any]:
    common = {"size": list(side), "crop": None, "pad": PAD, "antialias": False, "mean": None, "std": None}
    if layout == "yolox":
        return common | {"scale": 1.0, "channels": "bgr", "align": "corner"}
    return common | {"scale": 1 / 255, "channels": "rgb", "align": "centre"}


def _outputs(signature: Signature, side: tuple[int, int]) -> tuple[str, int]:
    """Return what the outputs are laid out like, and how many classes or numbers they have."""
    first = signature.outputs[0]
    cells = sum(math.ceil(side[0] / each) * math.ceil(side[1] / each) for each in STRIDES)
    if len(first.shape) == 3 and len(signature.outputs) == 1:
        _, many, each = first.shape
        if many == cells and each > 5:
            return "yolox", each - 5
        if many == 3 * cells and each > 5:
            return "yolov5", each - 5
        if each == cells and many > 4:
            return "yolov8", many - 4
    if len(first.shape) == 2:
        return "vector", first.shape[1]
    if len(first.shape) == 4:
        # Pooled over the places of the map: its channels are the smallest of its sides, or the last or the second.
        return "maps", first.shape[1] or first.shape[3]
    return "unknown", 0


def _unknown(path: Path, signature: Signature) -> HubError:
    def told(ports: tuple[Port, ...]) -> list[str]:
        return [f"{each.name} {each.kind} {list(each.shape)}" for each in ports]

    return HubError(
        f"'{path.name}' reads {listed(told(signature.inputs))} and gives {listed(told(signature.outputs))}: "
        "what that means is not known.",
        allowed="A graph that reads pictures (n, 3, height, width) or (n, height, width, 3), and gives classes, "
        "vectors, or boxes as YOLOX, YOLOv5 or YOLOv8 lay them out.",
    )
