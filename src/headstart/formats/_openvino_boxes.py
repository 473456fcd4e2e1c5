"""What is traced of detectors of DETR's family, and how their graphs run (`formats/_openvino_torch.py`)."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.registry import require
from headstart.formats._boxes import proposed
from headstart.formats._openvino import ov
from headstart.formats._openvino_pictures import side

SIZES = ((2, 160, 224), (1, 256, 192), (3, 192, 192))
"""Pictures, and their heights and widths, that it is traced with, and then compared with; where it reads any size."""


def concerns(network: Network) -> bool:
    """Return whether it is a detector of transformers."""
    return network.library == "transformers" and network.backbone.modality == "image" and network.use == "detect"


def unsupported(network: Network) -> str:
    """Return an empty string: what cannot be traced shows when it is tried."""
    return ""


def examples(network: Network) -> list[Arrays]:
    """Return pictures of noise."""
    generator, fixed = np.random.default_rng(0), side(network)
    return [
        {"pixels": generator.normal(size=(count, 3, *(fixed or sides))).astype(np.float32)} for count, *sides in SIZES
    ]


def given(network: Network, built: Any) -> tuple[np.ndarray, ...]:
    """Return what it is traced with (n, 3, height, width)."""
    return (examples(network)[0]["pixels"],)


def values(built: Any, pixels: Any) -> Any:
    """Return logits (n, queries, classes) and boxes (n, queries, 4)."""
    out = built.module(pixel_values=pixels)
    return out.logits, out.pred_boxes


def compared(own: Any, arrays: Arrays) -> dict[str, np.ndarray]:
    """Return what is compared: of a box's class and place, before they are put in an order that a rounding may change.

    Args:
        own: a session of PyTorch, or of a compiled graph.
    """
    if isinstance(own, BoxSession):
        return own.raw(arrays["pixels"])
    torch = require("torch", "torch")
    with torch.inference_mode():
        logits, boxes = values(own.built, torch.from_numpy(arrays["pixels"]))
    return {"logits": logits.numpy(), "boxes": boxes.numpy()}


def shapes(network: Network, built: Any) -> list[Any]:
    """Return the shape of what the graph reads."""
    return [ov.PartialShape([-1, 3, *(side(network) or (-1, -1))])]


@final
class BoxSession(Session):
    """A compiled detector: `pixels` (n, 3, height, width) in; boxes, scores, classes and counts out, best first."""

    def __init__(self, compiled: Any, network: Network) -> None:
        self.request, self.kind = compiled.create_infer_request(), str(network.config.get("model_type", ""))

    def raw(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the graph gives."""
        found = self.request.infer([np.ascontiguousarray(pixels, np.float32)], share_inputs=True)
        return {"logits": np.array(found[0], np.float32), "boxes": np.array(found[1], np.float32)}

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return every box that the network proposes; most have a low score."""
        found = self.raw(arrays["pixels"])
        return proposed(found["logits"], found["boxes"], arrays["pixels"].shape[2:], self.kind)


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return BoxSession(compiled, network)
