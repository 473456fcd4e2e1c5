"""YOLOX in PyTorch, to train it: weights out of an exported ONNX graph, or those of a tuned one.

Whoever opens an ONNX graph `local:yolox_nano.onnx` for training gives its network the library `yolox`; used as it is,
it stays a graph. What was tuned has the library `yolox` and one safetensors file, and runs without torch too
(`_yolox_graph.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch

from headstart.core.backbone import Network
from headstart.formats import _graphs, _yolox_files, _yolox_layout
from headstart.formats._yolox_loss import loss

PRIOR = 0.01
"""What a new class's share is in every place before training (Lin et al. 2017, arXiv:1708.02002)."""


def unsupported(network: Network) -> str:
    """Return an empty string, or why the network's file is no YOLOX."""
    if network.use != "detect":
        return f"it is to {network.use.replace('_', ' ')}, and YOLOX finds boxes"
    return _yolox_files.unsupported(network.weights)


def build(network: Network) -> Detector:
    """Return the network with its weights; where `config` asks for other classes, their layers are new.

    Raises:
        HubError: its file is no YOLOX.
    """
    size, classes, found = _yolox_files.read(network.weights)
    wanted = int(network.config.get("classes", classes))
    module = Yolox(size, wanted)
    tensors = {name: torch.from_numpy(each) for name, each in found.items()}
    if wanted != classes:
        tensors |= _new(module)
    module.load_state_dict(tensors)
    return Detector(module.eval(), network)


def _new(module: Any) -> dict[str, Any]:
    """Return tensors for the layers of new classes, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, each in module.state_dict().items():
        if _yolox_layout.is_class_layer(name):
            weights = name.endswith("weight")
            made[name] = torch.empty_like(each)
            if weights:
                made[name].normal_(0, 0.01, generator=generator)
            else:
                made[name].fill_(-math.log((1 - PRIOR) / PRIOR))
    return made


@final
class Yolox(torch.nn.Module):  # type: ignore[misc]
    """`pixels` (n, 3, height, width), BGR, 0 … 255, in; logits (n, places, 5 + classes) out, as exported graphs."""

    def __init__(self, size: _yolox_layout.Size, classes: int) -> None:
        super().__init__()
        self.size, self.classes = size, classes
        self._layers: dict[str, Any] = {}
        for each in _yolox_layout.convolutions(size, classes):
            outputs, inputs, kernel, _ = each.shape
            layer = torch.nn.Conv2d(
                inputs * each.groups, outputs, kernel, each.stride, kernel // 2, groups=each.groups
            )  # fmt: skip
            self._put(each.name, layer)

    def _put(self, name: str, layer: Any) -> None:
        *folders, last = name.split(".")
        place = self
        for each in folders:
            if not hasattr(place, each):
                place.add_module(each, torch.nn.Module())
            place = getattr(place, each)
        place.add_module(last, layer)

    def forward(self, pixels: Any) -> Any:
        """Return logits (n, places, 5 + classes): box, whether there is anything, classes; level after level."""
        levels = _yolox_layout.run(_Run(self), pixels, self.size, self.classes)
        return torch.cat([torch.cat(each, 1).flatten(2) for each in levels], 2).transpose(1, 2)


class _Run:
    """Runs the layout with the module's layers."""

    def __init__(self, module: Yolox) -> None:
        self.module = module

    def convolve(self, x: Any, name: str, outputs: int, kernel: int = 1, *, stride: int = 1, each: bool = False,
                 plain: bool = False) -> Any:  # fmt: skip
        made = self.module.get_submodule(name)(x)
        return made if plain else torch.nn.functional.silu(made)

    def patches(self, x: Any) -> Any:
        return torch.cat([x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)], 1)

    def pool(self, x: Any, kernel: int) -> Any:
        return torch.nn.functional.max_pool2d(x, kernel, 1, kernel // 2)

    def double(self, x: Any) -> Any:
        return torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")

    def join(self, parts: list[Any]) -> Any:
        return torch.cat(parts, 1)

    def add(self, x: Any, y: Any) -> Any:
        return x + y


@final
class Detector:
    """A YOLOX as sessions run it, and its loss."""

    def __init__(self, module: Yolox, network: Network) -> None:
        self.module, self.network = module, network

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return boxes (m, 4), scores, classes (m,) and counts (n,), overlapping ones too."""

        def infer(pixels: np.ndarray) -> np.ndarray:
            logits = self.module(torch.from_numpy(pixels).to(given["pixels"].device)).float()
            logits[..., 4:] = logits[..., 4:].sigmoid()
            return np.asarray(logits.detach().cpu().numpy())

        with torch.no_grad():
            found = _graphs.run(self.network, infer, given["pixels"].cpu().numpy())
        return {name: torch.from_numpy(each) for name, each in found.items()}

    def loss(self, given: Mapping[str, Any]) -> Any:
        """Return the training loss () of `pixels` with `boxes` (m, 4), `classes` (m,) and `counts` (n,)."""
        return loss(self.module(given["pixels"]), given)
