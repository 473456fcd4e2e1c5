"""StyleGAN2's generator, from checkpoints in the widely used `g_ema` layout, at any resolution.

Source: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, sections 2 to 4: weights are
scaled and normalised by the style instead of the activations, noise is added after each convolution, and each
resolution adds its own colours (skip connections).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.core.registry import require
from headstart.formats._checkpoint import tensors
from headstart.formats._generator import as_pixels, noise

torch = require("torch", "torch")

MAPPING_RATE = 0.01
"""The mapping network's learning rate in terms of the others'; its weights are stored divided by it."""
GAIN = math.sqrt(2)
"""What a leaky ReLU is multiplied by, so that it keeps the variance."""
SAMPLES = 4096
"""Latents whose mean is the style that truncation leans to."""


def build(network: Network) -> StyleGan2:
    """Build the generator.

    Raises:
        HubError: tensors are missing, or are not of this layout.
    """
    return StyleGan2(tensors(network.weights), str(network.weights))


class StyleGan2:
    """The generator as a function of its tensors."""

    def __init__(self, found: Mapping[str, Any], place: str) -> None:
        self.module = torch.nn.Module()
        for name, tensor in found.items():
            self.module.register_buffer(name.replace(".", "/"), tensor.float())
        self.place = place
        self.layers = sum(name.startswith("style.") and name.endswith(".weight") for name in found)
        self.levels = sum(name.startswith("to_rgbs.") and name.endswith(".conv.weight") for name in found)
        wanted = ["style.1.weight", "input.input", "conv1.conv.weight", "to_rgb1.conv.weight"]
        wanted += [f"convs.{number}.conv.weight" for number in range(2 * self.levels)]
        missing = [name for name in wanted if name not in found]
        if missing:
            raise HubError(
                f"'{place}' is not StyleGAN2's generator: it has no {missing[0]}.",
                allowed="The g_ema layout: style.1.weight, input.input, conv1.conv.weight, convs.N…, to_rgbs.N….",
            )
        self.width = int(found["style.1.weight"].shape[1])

    def _of(self, name: str) -> Any:
        try:
            return self.module.get_buffer(name.replace(".", "/"))
        except AttributeError as error:
            raise HubError(f"'{self.place}' lacks the tensor {name}.", hint="Fetch it again.") from error

    def _kernel(self, name: str) -> Any:
        """Return a low-pass filter (4, 4) whose sum is 4, because every other pixel that it sees is zero."""
        if hasattr(self.module, name.replace(".", "/")):
            return self._of(name)
        line = torch.tensor([1.0, 3.0, 3.0, 1.0], device=self._of("input.input").device)
        return torch.outer(line, line) / 16

    def style(self, z: Any) -> Any:
        """Return the styles (n, width) of latents (n, width)."""
        found = _unit(z)
        for number in range(1, self.layers + 1):
            weight, bias = self._of(f"style.{number}.weight"), self._of(f"style.{number}.bias")
            scale = MAPPING_RATE / math.sqrt(weight.shape[1])
            found = _active(torch.nn.functional.linear(found, weight * scale), bias * MAPPING_RATE)
        return found

    def pictures(self, style: Any, seed: int = 0) -> Any:
        """Return pictures (n, 3, side, side), about -1 to 1, of styles (n, width)."""
        made = self._styled("conv1", self._of("input.input").repeat(len(style), 1, 1, 1), style, 0, False, seed)
        colours = self._colours("to_rgb1", made, style)
        for level in range(self.levels):
            made = self._styled(f"convs.{2 * level}", made, style, 2 * level + 1, True, seed)
            made = self._styled(f"convs.{2 * level + 1}", made, style, 2 * level + 2, False, seed)
            # Zeros between the pixels and at the edges, then the filter.
            apart = _spread(colours)
            kernel = self._kernel(f"to_rgbs.{level}.upsample.kernel")
            colours = _filtered(apart, kernel, (2, 1)) + self._colours(f"to_rgbs.{level}", made, style)
        return colours

    def _styled(self, name: str, made: Any, style: Any, number: int, double: bool, seed: int) -> Any:
        made = self._convolved(name, made, style, normalised=True, double=double)
        shape = (1, 1, *made.shape[2:])
        stored = f"noises.noise_{number}"
        if hasattr(self.module, stored.replace(".", "/")):
            drawn = self._of(stored)
        else:
            drawn = noise(seed * 64 + number, math.prod(shape)).reshape(shape).to(made.device)
        made = made + self._of(f"{name}.noise.weight") * drawn
        return _active(made, self._of(f"{name}.activate.bias").reshape(1, -1, 1, 1))

    def _colours(self, name: str, made: Any, style: Any) -> Any:
        return self._convolved(name, made, style, normalised=False, double=False) + self._of(f"{name}.bias")

    def _convolved(self, name: str, made: Any, style: Any, normalised: bool, double: bool) -> Any:
        """Return a convolution whose weights are scaled by the style, for each picture its own."""
        weight = self._of(f"{name}.conv.weight")[0]
        out, into, size, _ = weight.shape
        turned = self._of(f"{name}.conv.modulation.weight")
        scales = torch.nn.functional.linear(
            style, turned / math.sqrt(turned.shape[1]), self._of(f"{name}.conv.modulation.bias")
        )
        own = weight / math.sqrt(into * size * size) * scales[:, None, :, None, None]
        if normalised:
            own = own * (own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        count, _, height, width = made.shape
        joined = made.reshape(1, count * into, height, width)
        if not double:
            joined = torch.nn.functional.conv2d(
                joined, own.reshape(count * out, into, size, size), padding=size // 2, groups=count
            )
            return joined.reshape(count, out, height, width)
        swapped = own.transpose(1, 2).reshape(count * into, out, size, size)
        joined = torch.nn.functional.conv_transpose2d(joined, swapped, stride=2, groups=count)
        spread = joined.reshape(count, out, *joined.shape[2:])
        return _filtered(spread, self._kernel(f"{name}.conv.blur.kernel"), (1, 1))

    def run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return `pictures` (n, side, side, 3) uint8 of the latents `z` (n, width)."""
        return {"pictures": as_pixels(self.pictures(self.style(arrays["z"])))}

    def generate(self, arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield `picture` (side, side, 3) uint8 for each of `seeds`.

        Args:
            arrays: nothing.
            settings: `truncation` from 0 to 1, or None: how far a picture may be from the average one.
        """
        share = 1.0 if settings.get("truncation") is None else float(settings["truncation"])
        device = self._of("input.input").device
        middle = 0.0
        if share != 1.0:
            drawn = noise(0, SAMPLES * self.width).reshape(SAMPLES, self.width)
            middle = self.style(drawn.to(device)).mean(dim=0, keepdim=True)
        for seed in settings["seeds"]:
            style = self.style(noise(seed, self.width).to(device))
            yield {"picture": as_pixels(self.pictures(middle + share * (style - middle), seed))[0]}


def _unit(z: Any) -> Any:
    return z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def _active(made: Any, bias: Any) -> Any:
    return torch.nn.functional.leaky_relu(made + bias, 0.2) * GAIN


def _spread(made: Any) -> Any:
    """Return pictures of twice the sides, with zeros after each pixel, to the right and below."""
    count, channels, height, width = made.shape
    wide = torch.nn.functional.pad(made.reshape(count, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
    return wide.reshape(count, channels, 2 * height, 2 * width)


def _filtered(made: Any, kernel: Any, edges: tuple[int, int]) -> Any:
    count, channels, height, width = made.shape
    padded = torch.nn.functional.pad(made.reshape(count * channels, 1, height, width), (*edges, *edges))
    filtered = torch.nn.functional.conv2d(padded, kernel.flip(0, 1)[None, None])
    return filtered.reshape(count, channels, *filtered.shape[2:])
