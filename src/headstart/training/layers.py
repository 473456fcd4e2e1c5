"""A network with fewer layers: some of a transformer's layers are left out, and the others stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from headstart.core.layers import changes
from headstart.training.blocks import blocks_of


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
                return changes(config, len(blocks), kept)
    raise ValueError("the network's layers do not stand in one list")
