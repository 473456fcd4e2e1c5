"""Tiny pictures and recordings, made on the spot, for tests without files."""

from __future__ import annotations

import io
import wave

import numpy as np

from headstart.core.blob import Blob
from headstart.core.registry import require


def picture(seed: int, *, side: int = 48, shape: str = "", kind: str = "PNG") -> Blob:
    """Return a picture of a bright shape on dark noise.

    Args:
        side: pixels of each side.
        shape: `square`, `bar`, or nothing but noise.
        kind: Pillow's name of the file format.
    """
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (side, side, 3), dtype=np.uint8)
    top, left = (int(each) for each in rng.integers(0, side // 3, 2))
    if shape == "square":
        pixels[top : top + side // 2, left : left + side // 2] = rng.integers(150, 255, 3)
    elif shape == "bar":
        pixels[top : top + side // 8] = rng.integers(150, 255, 3)
    file = io.BytesIO()
    require("PIL.Image", "image").fromarray(pixels).save(file, kind)
    return Blob(f"{shape or 'noise'}_{seed}.{kind.lower()}", file.getvalue)


def recording(seed: int, *, pitch: float = 440.0, seconds: float = 0.4, rate: int = 8000) -> Blob:
    """Return a WAV file of a tone with its octave in faint noise, 16 bits, mono.

    Args:
        pitch: of the tone, in Hz.
        rate: samples a second.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(int(rate * seconds)) / rate
    tone = 0.5 * np.sin(2 * np.pi * pitch * time) + 0.2 * np.sin(4 * np.pi * pitch * time + rng.uniform(0, 6))
    samples = (20_000 * (tone + 0.02 * rng.standard_normal(len(time)))).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    return Blob(f"tone_{seed}.wav", file.getvalue)
