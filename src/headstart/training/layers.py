"""A network with fewer layers: some of a transformer's layers are left out, and the others stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from headstart.training.blocks import blocks_of

COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
"""How configurations call the number of layers."""


def spread(count: int, wanted: int) -> list[int]:
    """Return which of `count` layers are kept: `wanted` of them, the first and the last among them, evenly spread.

    >>> spread(6, 3)
    [0, 2, 5]
    """
    return np.linspace(0, count - 1, wanted).round().astype(int).tolist() if wanted > 1 else [0][:wanted]


def cut(module: Any, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Leave layers out of a network, in place, and return what of its configuration is different then.

    Args:
        module: the network.
        config: its configuration.
        kept: numbers of the layers that stay.

    Raises:
        ValueError: its layers do not stand in one list.
    """
    blocks = list(blocks_of(module).blocks)
    for part in module.modules():
        for name, child in part.named_children():
            if isinstance(child, torch.nn.ModuleList) and len(child) == len(blocks) and child[0] is blocks[0]:
                setattr(part, name, torch.nn.ModuleList([child[each] for each in kept]))
                return _changes(config, len(blocks), kept)
    raise ValueError("the network's layers do not stand in one list")


def _changes(config: Mapping[str, Any], count: int, kept: Sequence[int]) -> dict[str, Any]:
    changes: dict[str, Any] = {name: len(kept) for name in COUNTS if config.get(name) == count}
    for name, value in config.items():
        if isinstance(value, (list, tuple)) and len(value) == count:  # such as `layer_types`
            changes[name] = [value[each] for each in kept]
    return changes
