"""What is traced of networks that read pictures, and how their graphs run (`formats/_openvino_torch.py`)."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import CHANNELS, Network
from headstart.formats._openvino import ov
from headstart.formats._openvino_requests import Requests

LIBRARIES = ("keras", "small", "timm", "torchhub", "torchvision", "transformers")
USES = ("classify", "embed")
COUNTS = (2, 3, 1)
"""How many pictures it is traced with, and then compared with."""
AT_ONCE = 8
"""Pictures of a job where jobs may run side by side."""


def concerns(network: Network) -> bool:
    """Return whether it is an image network of one of PyTorch's libraries, and gives no boxes."""
    return network.library in LIBRARIES and network.backbone.modality == "image" and network.use != "detect"


def unsupported(network: Network) -> str:
    """Return an empty string, or why it is not traced."""
    if network.use not in USES:
        return f"it is to {network.use.replace('_', ' ')}"
    return "" if side(network) else "its preprocessing sets no size"


def side(network: Network) -> tuple[int, int] | None:
    """Return height and width of what the network reads, where they are always the same."""
    size = network.preprocessing.get("crop") or network.preprocessing.get("size")
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) and len(size) == 2 else None


def _shape(network: Network) -> tuple[int, int, int]:
    height, width = side(network) or (0, 0)
    colours = CHANNELS.get(str(network.preprocessing.get("channels")), 3)
    return (height, width, colours) if network.preprocessing.get("layout") == "nhwc" else (colours, height, width)


def examples(network: Network) -> list[Arrays]:
    """Return pictures of noise in the range that the network reads, one batch for each of `COUNTS`."""
    generator, scale = np.random.default_rng(0), 255 * float(network.preprocessing.get("scale", 1 / 255))
    return [
        {"pixels": (generator.random((count, *_shape(network)), np.float32) * scale).astype(np.float32)}
        for count in COUNTS
    ]


def given(network: Network, built: Any) -> tuple[np.ndarray, ...]:
    """Return what it is traced with (n, …)."""
    return (examples(network)[0]["pixels"],)


def values(built: Any, pixels: Any) -> Any:
    """Return what the network makes of pictures."""
    (found,) = built.run({"pixels": pixels}).values()
    return found


def shapes(network: Network, built: Any) -> list[Any]:
    """Return the shape of what the graph reads."""
    return [ov.PartialShape([-1, *_shape(network)])]


@final
class PixelSession(Session):
    """A compiled image network: `pixels` in, laid out as its preprocessing says; its one output (n, width) out."""

    def __init__(self, compiled: Any) -> None:
        self.requests, self.output = Requests(compiled), compiled.outputs[0].get_any_name()

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the output."""
        given = np.ascontiguousarray(arrays["pixels"], np.float32)
        rows = AT_ONCE if self.requests.splits else max(len(given), 1)
        jobs = [[given[start : start + rows]] for start in range(0, max(len(given), 1), rows)]
        return {self.output: np.concatenate([each.astype(np.float32) for each in self.requests.each(jobs)])}


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return PixelSession(compiled)
