"""A network written to disk in the layout of the one it came from, with other weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.core.backbone import Network
from headstart.core.files import atomic_folder, sha256

WEIGHTS = "model.safetensors"
TEMPLATE = "chat_template.jinja"
KEPT = (".json", ".txt", ".model", ".jinja", ".py")
"""Suffixes of what stands beside the weights and is needed again."""


def written(
    network: Network, folder: Path, write: Callable[[Path], None], changes: Mapping[str, Any] | None = None
) -> Network:
    """Write a network with other weights into a folder of its own, and return it as it is there.

    Args:
        network: where it came from; what stands beside its weights is taken along.
        folder: what is written, in one step.
        write: writes the weights' file, as safetensors.
        changes: what of its configuration is different now, such as the number of classes.

    Raises:
        ResourceError: the disk is full.
    """
    config = {**network.config, **(changes or {})}
    with atomic_folder(folder) as part:
        copy_beside(network, part)
        if (part / "config.json").is_file() and config != json.loads(
            (part / "config.json").read_text(encoding="utf-8")
        ):
            (part / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        if network.preprocessing.get("chat_template"):
            # The one that it was taught in; it brought none of its own.
            (part / TEMPLATE).write_text(network.preprocessing["chat_template"], encoding="utf-8")
        write(part / WEIGHTS)
    weights = folder / WEIGHTS
    backbone = replace(network.backbone, checksum=sha256(weights), size=weights.stat().st_size, weights="", cached=True)
    return replace(network, folder=folder, weights=weights, config=config, backbone=backbone)


def copy_beside(network: Network, folder: Path) -> None:
    """Copy what stands beside a network's weights and is needed again, such as its tokenizer, into a folder."""
    if not (network.folder / "config.json").is_file():
        return
    for file in sorted(network.folder.rglob("*")):
        name = file.relative_to(network.folder)
        hidden = any(each.startswith(".") for each in name.parts)
        if file.is_file() and file.suffix in KEPT and not hidden and not name.name.endswith(".index.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
