"""Write the parts of a bundle into a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart import modalities
from headstart.core.head import Head
from headstart.core.modality import Modality
from headstart.core.recipe import Recipe
from headstart.runtime import Target
from headstart.stages.adapters import carry
from headstart.stages.networks import ADAPTERS, Opened, vendor


def save(
    folder: Path,
    recipe: Recipe,
    inputs: Sequence[Modality],
    targets: Mapping[str, Target],
    opened: Mapping[str, Opened],
    portable: bool,
) -> None:
    """Write recipe, inputs, targets, heads and backbone; the caller writes the report and the manifest."""
    from safetensors.numpy import save as as_safetensors

    (folder / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    _json(folder / "inputs.json", {modalities.name_of(each): each.spec() for each in inputs})
    arrays: dict[str, np.ndarray] = {}
    specs: dict[str, Any] = {}
    for number, (name, target) in enumerate(targets.items()):
        made = {"head": target.head} | ({"baseline": target.baseline} if target.baseline else {})
        entries = []
        for role, head in made.items():
            prefix = f"{number}.{role}"
            entries.append({"role": role, "kind": kind_of(head), "prefix": prefix, "settings": head.spec()})
            arrays |= {f"{prefix}/{key}": np.ascontiguousarray(value) for key, value in head.arrays().items()}
        specs[name] = {"task": target.task.spec(), "heads": entries}
    _json(folder / "targets.json", specs)
    # Written by Python, because safetensors' own writer hides why a write failed, such as a full disk.
    (folder / "heads.safetensors").write_bytes(as_safetensors(arrays))
    if opened:
        _json(folder / "backbones.json", {name: each.spec(portable) for name, each in opened.items()})
        for name, each in opened.items():
            if each.adapter and not portable:
                carry(each.adapter, folder / ADAPTERS / name)
            elif portable or each.tuned:
                vendor(each, folder / "backbone" / name)


def kind_of(head: Head) -> str:
    """Return a head's name in the registry, which is its file's name."""
    return type(head).__module__.rpartition(".")[2]


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
