"""Where somebody speaks in a recording, from a voice detector's probabilities, as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from headstart.core.arrays import Session

RATE = 16_000
WINDOW = 512
"""Samples that the detector judges at a time."""
BATCH = 64
"""Windows judged in one call, where so many are there: two seconds."""
HYSTERESIS = 0.15
"""How far below the threshold the probability falls before speech ends."""


@dataclass(frozen=True)
class Cut:
    """How speech is told from silence.

    Args:
        threshold: probability from which a window is speech.
        silence: seconds without speech that end a stretch.
        speech: seconds that a stretch has at least.
        margin: seconds kept before and after a stretch.
        longest: seconds after which a stretch ends anyway; 0 where it does not.
    """

    threshold: float = 0.5
    silence: float = 0.1
    speech: float = 0.25
    margin: float = 0.03
    longest: float = 0.0


def probabilities(session: Session, pieces: Iterable[np.ndarray]) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the probability of speech and the samples (512,) of each window in turn; the last is filled up."""
    memory: dict[str, np.ndarray] = {}
    rest = np.zeros(0, np.float32)

    def judged(samples: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        nonlocal memory
        for start in range(0, len(samples), BATCH * WINDOW):
            block = samples[start : start + BATCH * WINDOW]
            given = session.run({"samples": block, **memory})
            speech = given.pop("speech")
            memory = given
            yield from zip(speech.tolist(), block.reshape(-1, WINDOW), strict=True)

    for piece in pieces:
        joined = np.concatenate([rest, piece])
        whole = len(joined) // WINDOW * WINDOW
        rest = joined[whole:]
        yield from judged(joined[:whole])
    if len(rest):
        yield from judged(np.pad(rest, (0, WINDOW - len(rest))))


def stretches(session: Session, pieces: Iterable[np.ndarray], cut: Cut) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the start in seconds and the samples of each stretch of speech, as soon as it has ended."""
    quiet, least = int(cut.silence * RATE / WINDOW), int(cut.speech * RATE / WINDOW)
    margin = int(np.ceil(cut.margin * RATE / WINDOW))
    before: deque[np.ndarray] = deque(maxlen=max(margin, 1))
    held: list[np.ndarray] = []
    first = silent = spoken = 0

    def ended() -> Iterator[tuple[float, np.ndarray]]:
        if spoken >= least:
            kept = held[: len(held) - max(0, silent - margin)]
            yield first * WINDOW / RATE, np.concatenate(kept)

    for number, (share, window) in enumerate(probabilities(session, pieces)):
        if not held:
            if share >= cut.threshold:
                early = list(before) if margin else []
                held, first, silent, spoken = [*early, window], number - len(early), 0, 1
            before.append(window)
            continue
        held.append(window)
        silent = silent + 1 if share < cut.threshold - HYSTERESIS or (silent and share < cut.threshold) else 0
        spoken += not silent
        full = cut.longest and len(held) * WINDOW >= cut.longest * RATE
        if silent > quiet or full:
            yield from ended()
            held = []
            before.clear()
            before.append(window)
    if held:
        yield from ended()
