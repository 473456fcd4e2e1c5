"""Small networks that spell what is said (`formats/_ctc.py`): made here without weights, and read from a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError
from headstart.core.files import atomic_folder, cache_folder, sha256
from headstart.hubs._json import read_json

KIND = "headstart-ctc"
PREPROCESSING = ("sampling_rate", "do_normalize")
_COMMON = {
    "model_type": KIND,
    "width": 128,
    "blocks": 1,
    "layers": 2,
    "dropout": 0.2,
    "seed": 0,
    "sampling_rate": 16_000,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "ctc-small": {
        **_COMMON, "front": "mel", "bands": 64, "do_normalize": True, "conv_kernel": [400, 1], "conv_stride": [160, 2],
    },
    "ctc-silero": {
        **_COMMON, "front": "silero", "do_normalize": False, "conv_kernel": [256, 1], "conv_stride": [128, 2],
    },
}  # fmt: skip
"""Networks without weights, by name: they are to be trained. `conv_stride` says how many samples a frame stands for."""


def claims(folder: Path) -> bool:
    """Return whether a folder holds such a network."""
    path = folder / "config.json"
    return path.is_file() and f'"{KIND}"' in path.read_text(encoding="utf-8", errors="replace")


def listing(query: str) -> list[Backbone]:
    """Return the networks without weights whose name contains `query`."""
    return [_known(name) for name in NETWORKS if query.casefold() in name.casefold()]


def made(backbone: Backbone) -> Network:
    """Return a network without weights: a folder in the cache with its configuration.

    Raises:
        HubError: it has no such revision.
    """
    if backbone.revision:
        raise HubError(f"'{backbone.name}' has no revision '{backbone.revision}'.", allowed="It has none.")
    folder = cache_folder() / "models" / backbone.name
    text = json.dumps(NETWORKS[backbone.name], indent=1) + "\n"
    if not claims(folder) or (folder / "config.json").read_text(encoding="utf-8") != text:
        with atomic_folder(folder) as part:
            (part / "config.json").write_text(text, encoding="utf-8")
    return open_ctc(folder, replace(_known(backbone.name), weights=backbone.weights))


def _known(name: str) -> Backbone:
    return Backbone("builtin", name, modality="audio", licence="Apache-2.0", cached=True, uses=("transcribe",))


def open_ctc(folder: Path, backbone: Backbone) -> Network:
    """Return the network that a folder holds; it is untrained where it has no weights file.

    Raises:
        HubError: its configuration cannot be read.
    """
    config = read_json(folder / "config.json")
    weights = folder / "model.safetensors"
    weights = weights if weights.is_file() else folder / "config.json"
    return Network(
        folder=folder,
        architecture=f"ctc-{config.get('front')}",
        config=config,
        weights=weights,
        backbone=replace(
            backbone,
            checksum=sha256(weights),
            modality="audio",
            size=weights.stat().st_size,
            cached=True,
            uses=("transcribe",),
        ),
        preprocessing={name: config[name] for name in PREPROCESSING if name in config},
        library="ctc",
        labels=tuple(str(each) for each in config.get("labels") or ()),
    )
