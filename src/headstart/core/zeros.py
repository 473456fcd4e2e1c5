"""A network on disk with some of its weights set to zero, one by one: smaller once it is zipped, and no faster.

Source: Han et al., Learning both Weights and Connections for Efficient Neural Networks, 2015, section 3.1.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from headstart.core.backbone import Network
from headstart.core.errors import UsageError
from headstart.core.written import written

PIECE = 1 << 20
"""Bytes that are zipped at once."""


def zeroed(network: Network, share: float, folder: Path) -> Network:
    """Write a network in which the smallest weights of each matrix and kernel are zero, and return it as it is there.

    Args:
        network: its weights are one safetensors file.
        share: of the weights of each tensor of two axes or more, between 0 and 1.
        folder: what is written, in one step.

    Raises:
        UsageError: its weights are laid out otherwise.
    """
    from safetensors import safe_open
    from safetensors.numpy import save_file

    if network.weights.suffix != ".safetensors":
        raise UsageError(
            f"Weights of '{network.weights.name}' cannot be set to zero.", allowed="Networks in one safetensors file."
        )
    with safe_open(network.weights, framework="numpy") as file:
        tensors = {name: _without_smallest(file.get_tensor(name), share) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    return written(network, folder, lambda out: save_file(tensors, out, metadata))


def _without_smallest(weights: np.ndarray, share: float) -> np.ndarray:
    count = round(share * weights.size)
    if weights.ndim < 2 or not np.issubdtype(weights.dtype, np.floating) or not count:
        return weights
    flat = weights.reshape(-1).copy()
    flat[np.argpartition(np.abs(flat), count - 1)[:count]] = 0
    return flat.reshape(weights.shape)


def zipped(file: Path) -> int:
    """Return the bytes of a file once it is zipped (deflate)."""
    packer, size = zlib.compressobj(), 0
    with file.open("rb") as held:
        while piece := held.read(PIECE):
            size += len(packer.compress(piece))
    return size + len(packer.flush())
