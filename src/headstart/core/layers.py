"""A transformer on disk with fewer layers: some are left out of its weights, and the others stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.backbone import Network
from headstart.core.errors import UsageError
from headstart.core.written import written

COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
"""How configurations call the number of layers."""
NUMBERED = re.compile(r"(?P<before>(?:^|.*\.)layer\.)(?P<number>\d+)(?P<after>\..+)")
"""How the BERT family names a layer's tensors."""


def layer_count(config: Mapping[str, Any]) -> int:
    """Return how many layers a transformer's configuration tells of; 0 where it tells of none."""
    return next((int(config[name]) for name in COUNTS if config.get(name)), 0)


def spread(count: int, wanted: int) -> list[int]:
    """Return which of `count` layers are kept: `wanted` of them, the first and the last among them, evenly spread.

    >>> spread(6, 3)
    [0, 2, 5]
    """
    return np.linspace(0, count - 1, wanted).round().astype(int).tolist() if wanted > 1 else [0][:wanted]


def changes(config: Mapping[str, Any], count: int, kept: Sequence[int]) -> dict[str, Any]:
    """Return what of a configuration is different with only some of `count` layers."""
    found: dict[str, Any] = {name: len(kept) for name in COUNTS if config.get(name) == count}
    for name, value in config.items():
        if isinstance(value, (list, tuple)) and len(value) == count:  # such as `layer_types`
            found[name] = [value[each] for each in kept]
    return found


def shortened(network: Network, kept: Sequence[int], folder: Path) -> Network:
    """Write a text encoder of the BERT family with only some of its layers, and return it as it is there.

    Args:
        network: its weights are one safetensors file.
        kept: numbers of the layers that stay, in their order.
        folder: what is written, in one step.

    Raises:
        UsageError: its weights are laid out otherwise.
    """
    from safetensors import safe_open
    from safetensors.numpy import save_file

    count, place = layer_count(network.config), {old: new for new, old in enumerate(kept)}
    if network.weights.suffix != ".safetensors":
        raise UsageError(f"The layers of '{network.weights.name}' cannot be told apart.", allowed="A safetensors file.")
    with safe_open(network.weights, framework="numpy") as file:
        names = {name: NUMBERED.fullmatch(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        numbers = {int(found["number"]) for found in names.values() if found}
        if numbers != set(range(count)) or not set(kept) <= numbers:
            raise UsageError(
                f"'{network.backbone.reference}' tells of {count} layers, and its weights have {len(numbers)}.",
                allowed="Text encoders of the BERT family.",
            )
        tensors = {}
        for name, found in names.items():
            if found is None:
                tensors[name] = file.get_tensor(name)
            elif int(found["number"]) in place:
                tensors[f"{found['before']}{place[int(found['number'])]}{found['after']}"] = file.get_tensor(name)
    made = written(network, folder, lambda out: save_file(tensors, out), changes(network.config, count, kept))
    parameters = sum(int(each.size) for each in tensors.values())
    return replace(made, backbone=replace(made.backbone, parameters=parameters))
