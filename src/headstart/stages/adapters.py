"""Bundles that carry an adapter alone: the backbone is fetched, and the adapter merged into it, once."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

from headstart.core.adapter import SETTINGS, TENSORS, merge
from headstart.core.backbone import Network
from headstart.core.download import locked
from headstart.core.errors import HubError
from headstart.core.files import cache_folder, read_json, sha256, write_json
from headstart.core.written import WEIGHTS, written

CHECKSUM = "checksum.json"
"""The file beside a merged network that says what its weights must hash to."""


def carry(adapter: Path, folder: Path) -> None:
    """Copy an adapter into a bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (SETTINGS, TENSORS):
        shutil.copyfile(adapter / name, folder / name)


def merged(base: Network, adapter: Path) -> Network:
    """Return a network with an adapter merged into it; it is kept in the cache, and made again where it is damaged.

    Args:
        base: the network that the adapter was learnt for.
        adapter: the folder with peft's two files.

    Raises:
        HubError: they do not belong together.
    """
    parts = [base.backbone.checksum, *(sha256(adapter / name) for name in (SETTINGS, TENSORS))]
    place = cache_folder() / "merged" / hashlib.blake2b("".join(parts).encode(), digest_size=12).hexdigest()
    with locked(place.with_name(f".{place.name}.lock")):
        weights = place / "network" / WEIGHTS
        if _whole(place, weights):
            backbone = replace(base.backbone, checksum=sha256(weights), size=weights.stat().st_size)
            return replace(base, folder=weights.parent, weights=weights, backbone=backbone)
        network = written(base, weights.parent, lambda out: merge(base.weights, adapter, out))
        write_json(place / CHECKSUM, network.backbone.checksum)
    return network


def _whole(place: Path, weights: Path) -> bool:
    try:
        return weights.is_file() and read_json(place / CHECKSUM, HubError) == sha256(weights)
    except HubError:
        return False
