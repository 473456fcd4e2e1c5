"""What is traced of torchvision's detectors, and how their graphs run (`formats/_openvino_torch.py`).

Which boxes such a detector gives depends on which of many score higher, and there a rounding decides now and then. So
OpenVINO's boxes have to be as much like PyTorch's as PyTorch's own are for a picture that differs by a rounding.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.registry import require
from headstart.formats._openvino import ov
from headstart.formats._openvino_pictures import side

SIZES = ((256, 320), (320, 256), (192, 480))
"""Heights and widths of the pictures that it is traced with, and then compared with; where it reads any size."""
SPOT = 16
"""Pixels of a side of one colour in these pictures."""
ROUNDING = 1e-5
"""How much a pixel differs, as a share of it: as much as what sums in another order differ by after many layers."""
STEADY, MARGIN = 0.5, 0.1
"""The least share of boxes that must stay as they are then, and by how much OpenVINO's may be less."""
SAME_PLACE, SAME_SCORE = 0.98, 1e-3
"""Intersection over union from which two boxes are one, and how far apart their scores may be."""
UNSTEADY = "PyTorch's own boxes change with a rounding, so that OpenVINO's cannot be compared with them"
OTHERS = "it gives other boxes in OpenVINO than in PyTorch"


def concerns(network: Network) -> bool:
    """Return whether it is a detector of torchvision."""
    return network.library == "torchvision" and network.use == "detect"


def unsupported(network: Network) -> str:
    """Return an empty string: what cannot be traced shows when it is tried."""
    return ""


def examples(network: Network) -> list[Arrays]:
    """Return pictures (1, 3, height, width) of spots of colour, from 0 to 1."""
    generator, fixed, found = np.random.default_rng(0), side(network), list[Arrays]()
    for height, width in SIZES if fixed is None else [fixed] * len(SIZES):
        spots = generator.random((1, 3, -(-height // SPOT), -(-width // SPOT)), np.float32)
        found.append({"pixels": spots.repeat(SPOT, 2).repeat(SPOT, 3)[:, :, :height, :width]})
    return found


def given(network: Network, built: Any) -> tuple[np.ndarray, ...]:
    """Return what it is traced with: what `shapes` says, in its order."""
    return examples(network)[0]["pixels"], np.array([built.threshold], np.float32)


def values(built: Any, pixels: Any, threshold: Any) -> Any:
    """Return boxes (m, 4), scores (m,) and classes (m,) of a picture."""
    found = built.above(pixels, threshold)
    return found["boxes"], found["scores"], found["classes"]


def shapes(network: Network, built: Any) -> list[Any]:
    """Return the shapes of a picture and of the score that boxes have at least."""
    return [ov.PartialShape([1, 3, *(side(network) or (-1, -1))]), ov.PartialShape([1])]


def differs(own: Any, found: RegionSession, network: Network) -> str:
    """Return an empty string, or why a graph's boxes are not PyTorch's; all are compared, however low they score.

    Args:
        own: a session of PyTorch.
        found: one of the graph.
    """
    generator = np.random.default_rng(1)
    for arrays in examples(network):
        pixels = arrays["pixels"]
        moved = pixels * (1 + ROUNDING * generator.standard_normal(pixels.shape, np.float32))
        theirs = _of_pytorch(own, pixels)
        steady = alike(theirs, _of_pytorch(own, moved))
        if steady < STEADY:
            return UNSTEADY
        if alike(theirs, found.above(pixels, 0.0)) < steady - MARGIN:
            return OTHERS
    return ""


def _of_pytorch(own: Any, pixels: np.ndarray) -> dict[str, np.ndarray]:
    torch = require("torch", "torch")
    with torch.inference_mode():
        found = own.built.above(torch.from_numpy(pixels), 0.0)
    return {name: each.numpy() for name, each in found.items()}


def alike(some: Arrays, others: Arrays) -> float:
    """Return the share of boxes that are among the others, too, from 0 to 1: the lesser of both directions.

    Args:
        some, others: boxes (m, 4), scores (m,) and classes (m,).
    """
    if not len(some["scores"]) or not len(others["scores"]):
        return 0.0
    one, two = (each["boxes"].astype(np.float64) for each in (some, others))
    overlap = np.minimum(one[:, None, 2:], two[None, :, 2:]) - np.maximum(one[:, None, :2], two[None, :, :2])
    shared = overlap.clip(0).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (one, two)]
    union = areas[0][:, None] + areas[1][None] - shared
    same = shared >= SAME_PLACE * union
    same &= some["classes"][:, None] == others["classes"][None]
    same &= np.abs(some["scores"][:, None] - others["scores"][None]) <= SAME_SCORE
    return float(min(same.any(1).mean(), same.any(0).mean()))


def settled(graph: Any, built: Any) -> Any:
    """Return the graph with the network's own least score in it."""
    constant = ov.opset13.constant(np.array([built.threshold], np.float32))
    (parameter,) = (each for each in graph.get_parameters() if len(each.partial_shape) == 1)
    parameter.output(0).replace(constant.output(0))
    graph.remove_parameter(parameter)
    graph.validate_nodes_and_infer_types()
    return graph


@final
class RegionSession(Session):
    """A compiled detector: `pixels` (n, 3, height, width) in; boxes, scores, classes and counts out, best first."""

    def __init__(self, compiled: Any, network: Network) -> None:
        self.request = compiled.create_infer_request()

    def above(self, pixels: np.ndarray, threshold: float | None = None) -> dict[str, np.ndarray]:
        """Return boxes (m, 4), scores (m,) and classes (m,) of a picture; a graph with its own threshold needs none."""
        inputs = [np.ascontiguousarray(pixels, np.float32)]
        found = self.request.infer(inputs if threshold is None else [*inputs, np.array([threshold], np.float32)])
        boxes, scores, classes = (np.array(found[place]) for place in range(3))
        return {"boxes": boxes.astype(np.float32), "scores": scores.astype(np.float32), "classes": classes}

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the boxes that the network keeps."""
        pixels = arrays["pixels"]
        found = [self.above(pixels[row : row + 1]) for row in range(len(pixels))]
        together = {name: np.concatenate([each[name] for each in found]) for name in ("boxes", "scores", "classes")}
        return {**together, "counts": np.array([len(each["scores"]) for each in found], np.int64)}


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return RegionSession(compiled, network)
