"""Build plain GAN generators, a chain of layers, from the tensors of their state dict alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.core.registry import require
from headstart.formats._checkpoint import tensors

torch = require("torch", "torch")

LAYER = re.compile(r"(?:.*\.)?(\d+)\.(weight|bias|running_mean|running_var)")


def build(network: Network) -> Plain:
    """Build the generator that a checkpoint holds: fully connected (GAN), or transposed convolutions (DCGAN).

    Raises:
        HubError: the tensors are not those of such a chain, or its output is no picture.
    """
    layers: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors(network.weights).items():
        if match := LAYER.fullmatch(name):
            layers.setdefault(int(match[1]), {})[match[2]] = tensor.float()
    ordered = [layers[number] for number in sorted(layers)]
    flat = bool(ordered) and all(each["weight"].ndim == 2 for each in ordered if "weight" in each)
    chain = torch.nn.Sequential(*(_connected(ordered) if flat else _transposed(ordered, network)))
    return Plain(chain, ordered[0]["weight"].shape[1 if flat else 0], _shape(ordered, network) if flat else None)


def _connected(layers: list[dict[str, Any]]) -> Iterator[Any]:
    for each in layers:
        out, into = each["weight"].shape
        yield _filled(torch.nn.Linear(into, out, bias="bias" in each), each)
        yield torch.nn.Tanh() if each is layers[-1] else torch.nn.ReLU()


def _transposed(layers: list[dict[str, Any]], network: Network) -> Iterator[Any]:
    """Yield DCGAN's layers: the first makes a 4 x 4 picture of the noise, each of the others doubles its sides.

    Source: Radford, Metz and Chintala, Unsupervised Representation Learning with DCGANs, 2016, section 3.
    """
    shapes = [each["weight"].shape for each in layers if "weight" in each and each["weight"].ndim == 4]
    if not shapes or layers[0]["weight"].ndim != 4 or shapes[-1][1] not in (1, 3):
        raise HubError(
            f"'{network.weights}' holds no generator that can be told from its tensors.",
            allowed="A chain of linear layers, or of transposed convolutions, that ends in 1 or 3 channels.",
        )
    for number, each in enumerate(layers):
        if "running_mean" in each:
            yield _filled(torch.nn.BatchNorm2d(len(each["running_mean"])), each)
            yield torch.nn.ReLU()
            continue
        into, out, size, _ = each["weight"].shape
        step, edge = (2, size // 2 - 1) if number else (1, 0)
        yield _filled(torch.nn.ConvTranspose2d(into, out, size, step, edge, bias="bias" in each), each)
        if each is layers[-1]:
            yield torch.nn.Tanh()
        elif "running_mean" not in layers[number + 1]:
            yield torch.nn.ReLU()


def _filled(layer: Any, given: Mapping[str, Any]) -> Any:
    layer.load_state_dict(dict(given), strict=False)
    return layer


def _shape(layers: list[dict[str, Any]], network: Network) -> tuple[int, int, int]:
    """Return channels, height and width of a picture laid out flat.

    Raises:
        HubError: so many numbers are no square picture.
    """
    length = int(layers[-1]["weight"].shape[0])
    for channels in (1, 3):
        side = math.isqrt(length // channels)
        if side >= 8 and channels * side * side == length:
            return channels, side, side
    raise HubError(
        f"'{network.weights}' gives {length} numbers, which are no picture.",
        allowed="A generator gives a square picture in grey or colour, of 8 x 8 pixels at least.",
    )


class Plain:
    """A generator: noise (n, width) in, pictures out."""

    def __init__(self, module: Any, width: int, shape: tuple[int, int, int] | None) -> None:
        self.module, self.width, self.shape = module, width, shape

    def run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return `pictures` (n, height, width, 3) uint8 of the noise `z` (n, width)."""
        z = arrays["z"]
        made = self.module(z) if self.shape else self.module(z[:, :, None, None])
        return {"pictures": as_pixels(made.reshape(len(z), *self.shape) if self.shape else made)}

    def generate(self, arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield `picture` (height, width, 3) uint8 for each of `seeds`."""
        device = next(self.module.parameters()).device
        for seed in settings["seeds"]:
            yield {"picture": self.run({"z": noise(seed, self.width).to(device)})["pictures"][0]}


def noise(seed: int, width: int) -> Any:
    """Return a seed's noise (1, width): NumPy's, which is the same with every release of PyTorch."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((1, width)).astype(np.float32))


def as_pixels(made: Any) -> Any:
    """Return pictures (n, 1 or 3, h, w) from -1 to 1 as (n, h, w, 3) uint8."""
    pixels = ((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
