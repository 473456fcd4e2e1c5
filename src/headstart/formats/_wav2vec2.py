"""Wav2Vec2 and its kin: networks that read plain samples, whatever runs them.

Recordings of one length go through such a network together. Others do not: padding would change their answers, because
many of these networks were trained without a mask (Baevski and others 2020, arXiv:2006.11477, and the group norm of its
smaller network).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FAMILY = ("data2vec-audio", "hubert", "mctct", "sew", "sew-d", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")
"""What transformers calls their architectures."""


def least(config: Mapping[str, Any]) -> int:
    """Return of how many samples the convolutions make one frame: shorter recordings are filled up."""
    samples = 1
    sizes = (config.get("conv_kernel", ()), config.get("conv_stride", ()))
    for kernel, stride in reversed(list(zip(*sizes, strict=True))):
        samples = (samples - 1) * stride + kernel
    return samples


def alike(lengths: Sequence[int], shortest: int) -> dict[int, list[int]]:
    """Return which recordings have which length, once those below the shortest are filled up.

    >>> alike([5, 3, 9, 5], 5)
    {5: [0, 1, 3], 9: [2]}
    """
    found: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        found.setdefault(max(int(length), shortest), []).append(row)
    return found
