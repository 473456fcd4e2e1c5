"""What is traced of networks that read samples, and how their graphs run (`formats/_openvino_torch.py`)."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.formats._openvino import ov
from headstart.formats._openvino_requests import Requests
from headstart.formats._wav2vec2 import FAMILY, alike, least

USES = ("classify", "embed", "transcribe")
LENGTHS = ((16_000, 16_000), (9_000, 9_000, 24_001), (11,))
"""Samples of the recordings that it is traced with, and then compared with."""


def concerns(network: Network) -> bool:
    """Return whether it reads plain samples."""
    kind = str(network.config.get("model_type", ""))
    return network.library == "transformers" and network.backbone.modality == "audio" and kind in FAMILY


def unsupported(network: Network) -> str:
    """Return an empty string, or why it is not traced."""
    return "" if network.use in USES else f"it is to {network.use.replace('_', ' ')}"


def examples(network: Network) -> list[Arrays]:
    """Return recordings of noise."""
    rng = np.random.default_rng(0)
    return [
        {"samples": rng.normal(0, 0.3, sum(lengths)).astype(np.float32), "lengths": np.array(lengths, np.int32)}
        for lengths in LENGTHS
    ]


def given(network: Network, built: Any) -> tuple[np.ndarray, ...]:
    """Return what it is traced with (n, samples)."""
    first = examples(network)[0]
    return (first["samples"].reshape(len(first["lengths"]), -1),)


def values(built: Any, samples: Any) -> Any:
    """Return what the network makes of recordings of one length."""
    return built.values(samples)


def shapes(network: Network, built: Any) -> list[Any]:
    """Return the shape of what the graph reads."""
    return [ov.PartialShape([-1, -1])]


@final
class SampleSession(Session):
    """A compiled network: `samples` (flat) and `lengths` (n,) in; what its use gives out, as in PyTorch."""

    def __init__(self, compiled: Any, network: Network) -> None:
        self.requests, self.output = Requests(compiled), compiled.outputs[0].get_any_name()
        self.least, self.use = least(network.config), network.use

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `embedding` (n, width), `logits` (n, classes), or `logits` (frames, tokens) and `frames` (n,)."""
        lengths = np.asarray(arrays["lengths"], np.int64)
        clips = np.split(np.asarray(arrays["samples"], np.float32), np.cumsum(lengths)[:-1])
        found: dict[int, np.ndarray] = {}
        groups = alike(lengths.tolist(), self.least)
        jobs = [
            [np.stack([np.pad(clips[row], (0, length - len(clips[row]))) for row in rows])]
            for length, rows in groups.items()
        ]
        for rows, made in zip(groups.values(), self.requests.each(jobs), strict=True):
            found |= dict(zip(rows, made.astype(np.float32), strict=True))
        ordered = [found[row] for row in range(len(clips))]
        if self.use != "transcribe":
            return {self.output: np.stack(ordered)}
        return {self.output: np.concatenate(ordered), "frames": np.array([len(each) for each in ordered], np.int64)}


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return SampleSession(compiled, network)
