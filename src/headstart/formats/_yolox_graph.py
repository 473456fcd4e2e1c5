"""A tuned YOLOX as an OpenVINO graph, built straight from its safetensors: no torch, no export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from headstart.core.backbone import Network
from headstart.formats import _yolox_files, _yolox_layout
from headstart.formats._openvino import op, ov


def unsupported(network: Network) -> str:
    """Return an empty string, or why the network is left to PyTorch."""
    if network.use != "detect":
        return f"it is to {network.use.replace('_', ' ')}, and YOLOX finds boxes"
    return _yolox_files.unsupported(network.weights)


def build(network: Network) -> ov.Model:
    """Return the graph: `pixels` (n, 3, height, width) in, (n, places, 5 + classes) out, as exported graphs give it.

    Raises:
        HubError: its file is no YOLOX.
    """
    size, classes, tensors = _yolox_files.read(network.weights)
    height, width = (int(each) for each in network.preprocessing["size"])
    pixels = op.parameter([-1, 3, height, width], np.float32, name="pixels")
    levels = []
    for boxes, something, shares in _yolox_layout.run(_Graph(tensors), pixels, size, classes):
        joined = op.concat([boxes, op.sigmoid(something), op.sigmoid(shares)], 1)
        levels.append(op.reshape(joined, np.array([0, 5 + classes, -1]), special_zero=True))
    out = op.transpose(op.concat(levels, 2), np.array([0, 2, 1]))
    return ov.Model([out], [pixels], "yolox")


@final
class _Graph:
    """Adds the layout's layers to a graph."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.tensors = tensors

    def convolve(
        self, x: Any, name: str, outputs: int, kernel: int = 1, *, stride: int = 1, each: bool = False,
        plain: bool = False,
    ) -> Any:  # fmt: skip
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        steps, edge = [stride, stride], [kernel // 2] * 2
        if each:
            made = op.group_convolution(x, op.constant(weight[:, None]), steps, edge, edge, [1, 1])
        else:
            made = op.convolution(x, op.constant(weight), steps, edge, edge, [1, 1])
        made = op.add(made, op.constant(bias.reshape(1, -1, 1, 1)))
        return made if plain else op.swish(made)

    def patches(self, x: Any) -> Any:
        def part(row: int, column: int) -> Any:
            ends = np.array([np.iinfo(np.int32).max] * 2)
            return op.slice(x, np.array([row, column]), ends, np.array([2, 2]), np.array([2, 3]))

        return op.concat([part(row, column) for column in (0, 1) for row in (0, 1)], 1)

    def pool(self, x: Any, kernel: int) -> Any:
        edge = [kernel // 2] * 2
        return op.max_pool(x, [1, 1], [1, 1], edge, edge, [kernel, kernel]).output(0)

    def double(self, x: Any) -> Any:
        scales, axes = np.array([2, 2], np.float32), np.array([2, 3])
        return op.interpolate(
            x, scales, "nearest", "scales", axes=axes, nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )  # fmt: skip

    def join(self, parts: list[Any]) -> Any:
        return op.concat(parts, 1)

    def add(self, x: Any, y: Any) -> Any:
        return op.add(x, y)
