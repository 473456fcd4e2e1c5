"""What is traced of Whisper's encoder, which reads spectra, and how its graph runs (`formats/_openvino_torch.py`)."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.formats._openvino import ov
from headstart.formats._openvino_requests import Requests

USES = ("classify", "embed")
COUNTS = (2, 1)
"""Recordings that it is traced with, and then compared with."""


def concerns(network: Network) -> bool:
    """Return whether it is a Whisper that gives vectors or classes."""
    return is_whisper(network) and network.use in USES


def is_whisper(network: Network) -> bool:
    """Return whether it is a Whisper of transformers."""
    return network.library == "transformers" and network.config.get("model_type") == "whisper"


def unsupported(network: Network) -> str:
    """Return an empty string: all of them are traced."""
    return ""


def window(network: Network) -> tuple[int, int]:
    """Return bands and frames of what it reads."""
    return int(network.config["num_mel_bins"]), 2 * int(network.config["max_source_positions"])


def examples(network: Network) -> list[Arrays]:
    """Return spectra of noise, of recordings of which one fills its window."""
    rng, (bands, frames) = np.random.default_rng(0), window(network)
    hop = int(network.preprocessing.get("hop_length", 160))
    return [
        {
            "mel": rng.uniform(-1, 1, (count, bands, frames)).astype(np.float32),
            "lengths": np.linspace(frames * hop, frames * hop // 3, count).astype(np.int64),
        }
        for count in COUNTS
    ]


def given(network: Network, built: Any) -> tuple[np.ndarray, ...]:
    """Return what it is traced with: what `shapes` says, in its order."""
    return _inputs(network, examples(network)[0])


def values(built: Any, mel: Any, frames: Any = None) -> Any:
    """Return what the use asks for."""
    return built.values(mel, frames)


def shapes(network: Network, built: Any) -> list[Any]:
    """Return the shapes of spectra, and of how many frames were spoken, which vectors are the mean of."""
    spoken = [ov.PartialShape([-1])] if network.use == "embed" else []
    return [ov.PartialShape([-1, *window(network)]), *spoken]


def _inputs(network: Network, arrays: Arrays) -> tuple[np.ndarray, ...]:
    mel = np.ascontiguousarray(arrays["mel"], np.float32)
    if network.use != "embed":
        return (mel,)
    # Two convolutions make one frame of two.
    step = 2 * int(network.preprocessing.get("hop_length", 160))
    return mel, -(-np.asarray(arrays["lengths"], np.int64) // step)


@final
class SpectrumSession(Session):
    """A compiled encoder: `mel` (n, bands, frames) and `lengths` (n,) in; what its use gives out, as in PyTorch."""

    def __init__(self, compiled: Any, network: Network) -> None:
        self.requests, self.network = Requests(compiled), network
        self.output = compiled.outputs[0].get_any_name()

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `embedding` (n, width) or `logits` (n, classes)."""
        inputs = _inputs(self.network, arrays)
        # A window is work enough for all cores.
        jobs = [[each[row : row + 1] for each in inputs] for row in range(len(arrays["mel"]))]
        return {self.output: np.concatenate([np.array(each, np.float32) for each in self.requests.each(jobs)])}


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return SpectrumSession(compiled, network)
