"""Bundles that carry an adapter alone: it is merged into the backbone, or shares the backbone with other adapters."""

from __future__ import annotations

import hashlib
import shutil
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np

from headstart.core.adapter import SETTINGS, TENSORS, merge
from headstart.core.arrays import VARIANT, Adaptable, Arrays, Session, row_count
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


@final
class Together(Session):
    """A network and the adapters on it: one alone is merged, several share the network's weights and its passes.

    Merged weights answer sooner, and cost as much memory as the network itself.

    Args:
        alone: the network with the first adapter merged into it.
        adapter: that adapter's folder.
        start: opens the network for several adapters; returns None where no engine can.
    """

    def __init__(self, alone: Session, adapter: Path, start: Callable[[], Adaptable | None]) -> None:
        self._alone: Session | None = alone
        self._first, self._start = adapter, start
        self._several: Adaptable | None = None
        self._joining = threading.Lock()

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the outputs of rows of any of the adapters, each of which `variant` names."""
        alone = self._alone
        if alone is not None:
            return alone.run({name: each for name, each in arrays.items() if name != VARIANT})
        assert self._several is not None
        return self._several.run(arrays)

    def first(self) -> Session:
        """Return the network with the adapter that it began with."""
        return self._as(0)

    def join(self, adapter: Path) -> Session | None:
        """Return the network with another adapter; None where no engine can run several, or not this one.

        Raises:
            HubError: it is no adapter.
        """
        with self._joining:
            several = self._several or self._start()
            if several is None:
                return None
            try:
                if self._several is None:
                    several.add(self._first)
                variant = several.add(adapter)
            except HubError:
                return None
            self._several, self._alone = several, None
        return self._as(variant)

    def _as(self, variant: int) -> Session:
        session = Adapted(self, variant)
        weakref.finalize(session, self._drop, variant)
        return session

    def _drop(self, variant: int) -> None:
        if self._several is not None:
            self._several.drop(variant)


@final
class Adapted(Session):
    """A network with one adapter, of those that are on it.

    Args:
        together: runs them all.
        variant: which of them.
    """

    def __init__(self, together: Together, variant: int) -> None:
        self._together, self.variant = together, variant

    @property
    def shared(self) -> Session:
        """What runs the rows of all of them."""
        return self._together

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the outputs of this adapter's rows."""
        return self._together.run({**arrays, **self.beside(row_count(arrays))})


def _whole(place: Path, weights: Path) -> bool:
    try:
        return weights.is_file() and read_json(place / CHECKSUM, HubError) == sha256(weights)
    except HubError:
        return False
