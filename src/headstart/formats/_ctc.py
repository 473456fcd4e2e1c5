"""Small networks that spell what is said, letter by letter (CTC), to be trained from scratch on few recordings.

A front turns samples into features every few milliseconds: a log-mel spectrum, or the frozen encoder of Silero's voice
detector. Two convolutions and bidirectional GRU layers read them, and a linear layer gives the letters. The letters are
the network's `labels`; number 0 says: nothing new. Nothing depends on what else is in a batch.

Source: Graves et al., Connectionist Temporal Classification, 2006; Park et al., SpecAugment, 2019.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from headstart.core.backbone import Network
from headstart.core.errors import HubError, listed
from headstart.formats._checkpoint import fit, tensors

RATE, FFT = 16_000, 512
FLOOR = 1e-3
"""Power of a band that counts as nothing, of samples with variance 1."""
HIDDEN = 0.15
"""Share of the time, and of the bands, that each of two masks hides at most in training."""
OUTPUT = "out."


def unsupported(network: Network) -> str:
    """Return an empty string, or why the network cannot be built."""
    if network.use != "transcribe":
        return f"it is to {network.use.replace('_', ' ')}, and it writes down speech only"
    return "" if network.labels else "it has not been trained yet: it knows no letters"


def build(network: Network) -> Spelling:
    """Return the network; layers that the weights do not have are new, made from the configuration's seed.

    Raises:
        HubError: the weights are not those of such a network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(network.config.get("seed", 0)))
        module = Layers(network.config, len(network.labels))
    if network.weights.suffix == ".safetensors":
        found = tensors(network.weights)
        if _others(network):
            new = {name: each for name, each in module.state_dict().items() if name.startswith(OUTPUT)}
            found = {name: each for name, each in found.items() if not name.startswith(OUTPUT)} | new
        fit(module, found, network.weights.name)
    elif network.config["front"] == "silero":
        module.front.take(tensors(_named(network)))
    return Spelling(module)


def _others(network: Network) -> bool:
    """Return whether the network is to learn other letters than its weights know."""
    told = json.loads((network.folder / "config.json").read_text(encoding="utf-8")).get("labels")
    return bool(told) and list(told) != list(network.labels)


def _named(network: Network) -> Path:
    if not network.backbone.weights:
        raise HubError(
            f"'{network.backbone.reference}' begins with a voice detector's encoder, whose weights are not here.",
            allowed="Silero's detector for 16 kHz, as safetensors: silero_vad_16k.safetensors.",
            hint="Name the file with --weights FILE.",
        )
    return Path(network.backbone.weights)


def masked(values: Any, lengths: Any) -> Any:
    """Return features (n, width, frames) with zeros behind each row's own frames."""
    return values * (torch.arange(values.shape[2], device=values.device) < lengths[:, None])[:, None]


class Spectrum(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """The log-mel spectrum of samples (n, m), (n, bands, frames); each band of a recording has mean 0, variance 1."""

    kernel, stride = 400, 160

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.width = bands
        self.register_buffer("window", torch.hann_window(self.kernel), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_filters(bands)), persistent=False)

    def forward(self, samples: Any, lengths: Any) -> tuple[Any, Any]:
        """Return the features and how many frames of each row are its own."""
        frames = (lengths - self.kernel).div(self.stride, rounding_mode="floor") + 1
        # Powers differ by more than half precision can tell, which training may compute in.
        with torch.autocast(samples.device.type, enabled=False):
            pieces = samples.float().unfold(1, self.kernel, self.stride) * self.window
            power = torch.fft.rfft(functional.pad(pieces, (0, FFT - self.kernel))).abs().square()
            levels = (power @ self.filters).clamp(min=FLOOR).log().transpose(1, 2)
            return standardised(levels, frames), frames


def standardised(values: Any, frames: Any) -> Any:
    """Return features (n, width, frames), each with mean 0 and variance 1 over its recording's own frames."""
    count = frames[:, None, None]
    centred = masked(masked(values, frames) - masked(values, frames).sum(dim=2, keepdim=True) / count, frames)
    return centred / (centred.square().sum(dim=2, keepdim=True) / count + 1e-2).sqrt()


class Voice(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """The encoder of Silero's voice detector on samples (n, m): what its four layers say, every 8 ms.

    The detector takes every fourth frame; strides become dilations here. The lower layers tell sounds apart, the upper
    ones voice from noise.
    """

    kernel, stride, width = 256, 128, 384

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = torch.nn.Conv1d(1, 258, 256, stride=128, bias=False)
        for number, (into, out, apart) in enumerate([(129, 128, 1), (128, 64, 1), (64, 64, 2), (64, 128, 4)], start=1):
            self.add_module(f"conv{number}", torch.nn.Conv1d(into, out, 3, padding=apart, dilation=apart))

    def take(self, found: Mapping[str, Any]) -> None:
        """Take over the detector's weights; its LSTM and its output are left out.

        Raises:
            HubError: they are not there.
        """
        asked = self.state_dict()
        fit(self, {name: each for name, each in found.items() if name in asked}, "the voice detector")

    def layers(self, samples: Any, frames: Any) -> list[Any]:
        """Return what each layer gives, (n, width, frames)."""
        both = self.stft_conv(samples[:, None])
        inner = (both[:, :129].square() + both[:, 129:].square()).clamp(min=1e-12).sqrt()
        found = []
        for number in (1, 2, 3, 4):
            inner = getattr(self, f"conv{number}")(masked(inner, frames)).relu()
            found.append(inner)
        return found

    def forward(self, samples: Any, lengths: Any) -> tuple[Any, Any]:
        """Return the features (n, 384, frames) and how many frames of each row are its own."""
        frames = (lengths - self.kernel).div(self.stride, rounding_mode="floor") + 1
        with torch.autocast(samples.device.type, enabled=False):
            beside = torch.cat(self.layers(samples.float(), frames), dim=1)
            return standardised(beside.log1p(), frames), frames


class Block(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A convolution over frames (n, frames, width), added to what it reads."""

    def __init__(self, width: int, apart: int, drop: float) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv1d(width, width, 5, padding=2 * apart, dilation=apart)
        self.norm, self.dropout = torch.nn.LayerNorm(width), torch.nn.Dropout(drop)

    def forward(self, inner: Any, frames: Any) -> Any:
        """Return the frames with what stands around each of them."""
        beside = self.convolution(masked(inner.transpose(1, 2), frames)).transpose(1, 2)
        return inner + self.dropout(functional.gelu(self.norm(beside)))


class Both(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """An LSTM from left to right and one from right to left, over frames (n, frames, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.right = torch.nn.LSTM(width, width // 2, batch_first=True)
        self.left = torch.nn.LSTM(width, width // 2, batch_first=True)

    def forward(self, inner: Any, frames: Any) -> Any:
        """Return what both say of each frame, side by side."""
        # The padding goes behind each row in both directions, so that it changes nothing; packing costs twice the time.
        place = torch.arange(inner.shape[1], device=inner.device)
        turned = (frames[:, None] - 1 - place).remainder(inner.shape[1])[:, :, None]
        back, _ = self.left(inner.gather(1, turned.expand_as(inner)))
        return torch.cat([self.right(inner)[0], back.gather(1, turned.expand_as(back))], dim=2)


class Layers(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Front, convolutions, GRU and letters: samples (n, m) and lengths (n,) in, logits (n, frames, letters) out."""

    def __init__(self, config: Mapping[str, Any], letters: int) -> None:
        super().__init__()
        fronts: dict[str, Any] = {"mel": lambda: Spectrum(int(config["bands"])), "silero": Voice}
        if config.get("front") not in fronts:
            raise HubError(f"A network's front is '{config.get('front')}'.", allowed=f"Fronts: {listed(fronts)}.")
        self.front: Any = fronts[config["front"]]()
        width, drop = int(config["width"]), float(config["dropout"])
        self.lower = torch.nn.Conv1d(self.front.width, width, 5, stride=2, padding=2)
        self.lower_norm = torch.nn.LayerNorm(width)
        self.blocks = torch.nn.ModuleList(
            Block(width, 2 ** (each // 2 % 3), drop) for each in range(int(config["blocks"]))
        )
        self.layers = torch.nn.ModuleList(Both(width) for _ in range(int(config["layers"])))
        self.dropout = torch.nn.Dropout(drop)
        self.out = torch.nn.Linear(width, letters)

    def freeze_feature_encoder(self) -> None:
        """Keep the front as it is."""
        for each in self.front.parameters():
            each.requires_grad_(False)

    def forward(self, samples: Any, lengths: Any) -> tuple[Any, Any]:
        """Return logits (n, frames, letters) and how many frames of each row are its own."""
        inner, frames = self.front(samples, lengths)
        if self.training:
            inner = hidden(inner, frames)
        inner = functional.gelu(self.lower_norm(self.lower(inner).transpose(1, 2)))
        frames = (frames + 1).div(2, rounding_mode="floor")
        for block in self.blocks:
            inner = block(inner, frames)
        for layer in self.layers:
            inner = inner + self.dropout(layer(inner, frames))
        return self.out(self.dropout(inner)), frames


def hidden(values: Any, frames: Any) -> Any:
    """Return features (n, width, frames) with two stretches of time and two of bands of each row hidden, by chance."""
    count, width, _ = values.shape
    for axis, limits in ((2, frames), (1, torch.full_like(frames, width))):
        drawn = torch.rand(2, 2, count).to(values.device)
        place = torch.arange(values.shape[axis], device=values.device)
        for share, start in drawn:
            long = share * HIDDEN * limits
            first = (start * (limits - long))[:, None]
            covered = (place >= first) & (place < first + long[:, None])
            values = values.masked_fill(covered[:, None] if axis == 2 else covered[:, :, None], 0.0)
    return values


class Spelling:
    """A network that spells: `samples` (flat) and `lengths` (n,) in, letters every few milliseconds out."""

    def __init__(self, module: Layers) -> None:
        self.module = module

    def run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return `logits` (frames, letters), flat, and `frames` (n,)."""
        logits, frames = self._logits(arrays)
        rows = [row[:count] for row, count in zip(logits, frames.tolist(), strict=True)]
        return {"logits": torch.cat(rows), "frames": frames}

    def loss(self, arrays: Mapping[str, Any]) -> Any:
        """Return the CTC loss () of `tokens` (flat) and `tokens_lengths` (n,)."""
        logits, frames = self._logits(arrays)
        return ctc_loss(logits, frames, arrays, 0)

    def _logits(self, arrays: Mapping[str, Any]) -> tuple[Any, Any]:
        clips = torch.split(arrays["samples"], arrays["lengths"].tolist())
        samples = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        least = self.module.front.kernel
        samples = functional.pad(samples, (0, max(0, least - samples.shape[1])))
        return self.module(samples, arrays["lengths"].clamp(min=least))


def ctc_loss(logits: Any, frames: Any, arrays: Mapping[str, Any], blank: int) -> Any:
    """Return the mean over rows of the CTC loss for each letter; a row with too few frames for its letters adds 0.

    Args:
        logits: (n, frames, letters).
        frames: how many of each row are its own (n,).
        arrays: `tokens` (flat) and `tokens_lengths` (n,).
        blank: the number that says: nothing new.
    """
    spelt = logits.float().log_softmax(dim=2).transpose(0, 1)
    lengths = arrays["tokens_lengths"].long()
    return functional.ctc_loss(spelt, arrays["tokens"].long(), frames.long(), lengths, blank, zero_infinity=True)


def mel_filters(bands: int) -> np.ndarray:
    """Return triangles (FFT // 2 + 1, bands) of height 1, evenly spaced on the mel scale from 20 Hz to 7600 Hz."""
    ends = 2595 * np.log10(1 + np.array([20.0, 7600.0]) / 700)
    corners = 700 * (10 ** (np.linspace(ends[0], ends[1], bands + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, FFT // 2 + 1)[:, None]
    rise = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)
