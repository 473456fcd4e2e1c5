"""Networks that are open now, and bundles that share them: whole, or a backbone under the adapters of several."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, final

from headstart.core.arrays import Adaptable, Session
from headstart.core.bundle import Bundle
from headstart.core.progress import Progress
from headstart.stages.adapters import Together
from headstart.stages.networks import ADAPTERS, Opened, engines_of, fetch, open_one, specs_of, viewed


@final
@dataclass(frozen=True)
class _Base:
    """A backbone that adapters stand on: what runs them, while anybody uses it, and as what it is opened."""

    together: weakref.ref[Together]
    opened: Mapping[str, Any]


@final
class Kept:
    """Networks that are open now, so that bundles on the same one share it; what nobody runs any more is let go."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[weakref.ref[Session], Mapping[str, Any]]] = {}
        self._bases: dict[str, _Base] = {}
        self._opening = threading.Lock()

    def get(self, bundle: Bundle, modality: str, spec: Mapping[str, Any], progress: Progress) -> Opened:
        """Return the network that a bundle reads a modality with, opened unless it is open already.

        Raises:
            BundleError: it cannot be had, or not be opened.
        """
        key = _content(bundle, modality, spec)
        with self._opening:
            held, known = self._open.get(key, (lambda: None, {}))
            session = held()
            if session is not None:
                return Opened(session=session, **known)
            adapted = self._adapted if spec.get("adapter") else open_one
            opened = adapted(bundle, modality, spec, progress)
            self._open[key] = weakref.ref(opened.session), _told(opened)
            return opened

    def _adapted(self, bundle: Bundle, modality: str, spec: Mapping[str, Any], progress: Progress) -> Opened:
        """Let a bundle's adapter join those on its backbone; where none is there, or it cannot, it is merged."""
        key = json.dumps({name: each for name, each in spec.items() if name not in ("why", "tuned")}, sort_keys=True)
        base, folder = self._bases.get(key), bundle.path / ADAPTERS / modality
        together = base.together() if base else None
        if base is not None and together is not None:
            session = together.join(folder)
            if session is not None:
                return Opened(**{**base.opened, "session": session, "tuned": spec.get("tuned", "")})
        opened = open_one(bundle, modality, spec, progress)
        if together is None:
            network = viewed(fetch(spec["reference"], spec["checksum"], progress, spec["weights"]), spec["view"])
            told = {**_told(opened), "network": network}
            together = Together(opened.session, folder, partial(_several, told))
            self._bases[key] = _Base(weakref.ref(together), told)
            opened = replace(opened, session=together.first())
        return opened


def open_for(bundle: Bundle, progress: Progress, kept: Kept | None = None) -> dict[str, Opened]:
    """Open the networks that a bundle was fitted with, by modality: the vendored ones, else from their hubs.

    Args:
        kept: those that are open; the bundle's are taken from there, or added.
    """
    opens = kept.get if kept is not None else open_one
    return {name: opens(bundle, name, spec, progress) for name, spec in specs_of(bundle).items()}


def _several(told: Mapping[str, Any]) -> Adaptable | None:
    """Open a backbone for several adapters, with its own engine or the next that can; None where none can."""
    network = told["network"]
    for _, engine in engines_of(network, told["format"]):
        offered = engine.offered(network)
        precision = told["precision"] if told["precision"] in offered else offered[0]
        several = engine.open_adaptable(network, precision, told["threads"])
        if several is not None:
            return several
    return None


def _told(opened: Opened) -> dict[str, Any]:
    """Return all of an open network but its session, which is let go when nobody runs it."""
    return {each.name: getattr(opened, each.name) for each in fields(opened) if each.name != "session"}


def _content(bundle: Bundle, modality: str, spec: Mapping[str, Any]) -> str:
    """Return what tells a network, as a bundle uses it, apart from all others: its files, view and engine."""
    own = (f"backbone/{modality}/", f"{ADAPTERS}/{modality}/")
    files = {name: found for name, found in bundle.manifest["files"].items() if name.startswith(own)}
    known = {name: each for name, each in spec.items() if name != "why"}
    return json.dumps([known, files], sort_keys=True)
