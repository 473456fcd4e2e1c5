"""A tuned network on disk, and weights between two networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from headstart.core.backbone import Network
from headstart.core.written import written


def saved(network: Network, module: Any, folder: Path, changes: Mapping[str, Any] | None = None) -> Network:
    """Write a network's weights, and return it as it is on disk.

    Args:
        network: where it came from.
        module: the `torch.nn.Module` that holds the weights; JSON files that it needs beside them, such as its
            vocabulary, are in its `beside`, by name.
        folder: what is written, in one step.
        changes: what of its configuration is different now, such as the number of classes.

    Raises:
        ResourceError: the disk is full.
    """

    def write(path: Path) -> None:
        save_file(tensors_of(module), path, metadata={"format": "pt"})
        for name, value in getattr(module, "beside", {}).items():
            (path.parent / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    return written(network, folder, write, changes)


def tensors_of(module: Any) -> dict[str, Any]:
    """Return a module's tensors by name; of those that share memory (tied weights), each has a copy of its own."""
    seen: set[int] = set()
    found = {}
    for name, each in module.state_dict().items():
        tensor = each.detach().cpu().contiguous()
        found[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return found


def mixed(first: Mapping[str, Any], second: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Return weights between two networks: `share` of the second (WiSE-FT: Wortsman and others 2022, arXiv:2109.01903).

    W = W_first + share · (W_second - W_first); numbers that are counts are the second's.
    """
    return {name: first[name].lerp(each, share) if each.is_floating_point() else each for name, each in second.items()}
