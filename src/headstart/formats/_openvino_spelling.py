"""What is traced of the small networks that spell (`formats/_ctc.py`), and how their graphs run."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.formats._openvino import ov

LENGTHS = ((16_000, 9_000), (9_000, 700, 24_001), (11,))
"""Samples of the recordings that it is traced with, and then compared with."""
EXACT = r".*\.front/.*"
"""Operations that eight bits would ruin: powers of bands range over many orders of magnitude."""
AT_ONCE = 8
"""Recordings that go through it together, the longest first."""


def concerns(network: Network) -> bool:
    """Return whether it is such a network."""
    return network.library == "ctc"


def unsupported(network: Network) -> str:
    """Return an empty string, or why it is not traced."""
    if network.use != "transcribe":
        return f"it is to {network.use.replace('_', ' ')}"
    return "" if network.weights.suffix == ".safetensors" else "it has no weights yet"


def examples(network: Network) -> list[Arrays]:
    """Return recordings of noise."""
    rng = np.random.default_rng(0)
    return [
        {"samples": rng.normal(0, 0.3, sum(lengths)).astype(np.float32), "lengths": np.array(lengths, np.int64)}
        for lengths in LENGTHS
    ]


def given(network: Network, built: Any) -> tuple[np.ndarray, ...]:
    """Return what it is traced with: samples (n, m) and lengths (n,)."""
    first = examples(network)[0]
    return _padded(first["samples"], first["lengths"], np.arange(len(first["lengths"])), 0)


def values(built: Any, samples: Any, lengths: Any) -> Any:
    """Return letters (n, frames, letters) and how many frames of each recording are its own."""
    return built.module(samples, lengths)


def shapes(network: Network, built: Any) -> list[Any]:
    """Return the shapes of what the graph reads."""
    return [ov.PartialShape([-1, -1]), ov.PartialShape([-1])]


def _padded(samples: np.ndarray, lengths: np.ndarray, rows: np.ndarray, least: int) -> tuple[np.ndarray, ...]:
    """Return some recordings (n, m), zeros behind them, and their lengths (n,), of `least` samples at the least."""
    starts = np.cumsum(lengths) - lengths
    made = np.zeros((len(rows), max(least, int(lengths[rows].max()))), np.float32)
    for place, row in enumerate(rows):
        made[place, : lengths[row]] = samples[starts[row] : starts[row] + lengths[row]]
    return made, np.maximum(lengths[rows], least)


@final
class SpellingSession(Session):
    """A compiled network: `samples` (flat) and `lengths` (n,) in, `logits` (frames, letters) and `frames` out."""

    def __init__(self, compiled: Any, network: Network) -> None:
        self.request, self.least = compiled.create_infer_request(), int(network.config["conv_kernel"][0])

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `logits` (frames, letters), flat, and `frames` (n,)."""
        lengths = np.asarray(arrays["lengths"], np.int64)
        samples = np.asarray(arrays["samples"], np.float32)
        order = np.argsort(-lengths, kind="stable")
        logits: dict[int, np.ndarray] = {}
        for first in range(0, len(order), AT_ONCE):
            rows = order[first : first + AT_ONCE]
            found = self.request.infer(list(_padded(samples, lengths, rows, self.least)), share_inputs=True)
            for row, letters, frames in zip(rows.tolist(), found[0], found[1].tolist(), strict=True):
                logits[row] = np.array(letters[:frames], np.float32)
        ordered = [logits[row] for row in range(len(lengths))]
        return {"logits": np.concatenate(ordered), "frames": np.array([len(each) for each in ordered], np.int64)}


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return SpellingSession(compiled, network)
