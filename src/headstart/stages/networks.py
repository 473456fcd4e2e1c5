"""Resolve a backbone reference to an opened network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart import formats, hubs
from headstart.core.arrays import Session
from headstart.core.backbone import Backbone, Network
from headstart.core.bundle import Bundle
from headstart.core.errors import BundleError, HubError, UsageError, listed
from headstart.core.progress import Progress
from headstart.core.threads import core_count

DEFAULT = {"text": "builtin:all-MiniLM-L6-v2"}
"""The backbone that `auto` stands for, by modality."""
SHORT = {"hf": "huggingface", "tfhub": "tensorflowhub", "kaggle": "tensorflowhub"}
"""Short names of hubs."""


@dataclass(frozen=True)
class Opened:
    """A network running on this machine: what it is, with which engine, precision and threads."""

    network: Network
    session: Session
    format: str
    precision: str
    threads: int

    def spec(self, portable: bool) -> dict[str, Any]:
        """Return what a bundle records of it, as plain JSON data."""
        backbone = self.network.backbone
        return {
            "reference": backbone.reference,
            "checksum": backbone.checksum,
            "licence": backbone.licence,
            "width": backbone.width,
            "parameters": backbone.parameters,
            "size": backbone.size,
            "architecture": self.network.architecture,
            "format": self.format,
            "portable": portable,
        }


def fetch(reference: str, checksum: str, progress: Progress, weights: str = "") -> Network:
    """Return a backbone on disk.

    Args:
        checksum: what its weights must hash to; empty where they are not pinned.
        weights: a local file that takes the place of the hub's own weights.

    Raises:
        HubError: it cannot be had.
    """
    backbone = Backbone.parse(reference)
    hub = SHORT.get(backbone.hub, backbone.hub)
    return hubs.registry.get(hub)().fetch(replace(backbone, hub=hub, checksum=checksum, weights=weights), progress)


def open_network(
    reference: str, checksum: str, progress: Progress, format_name: str = "", *, use: str = "embed", weights: str = ""
) -> Opened:
    """Fetch a backbone and open it with the first engine that supports it, at this machine's fastest precision.

    Args:
        use: what it is opened for, a name of `pipelines/`; `auto` is what it is made for.

    Raises:
        HubError: it cannot be had, or no engine here can run it.
        UsageError: it cannot be used so.
    """
    network = fetch(reference, checksum, progress, weights)
    uses = network.backbone.uses
    if use == "auto":
        use = uses[0] if uses else "embed"
    if uses and use not in uses:
        raise UsageError(
            f"'{network.backbone.reference}' cannot {use.replace('_', ' ')}.", allowed=f"It can: {listed(uses)}."
        )
    return start(replace(network, use=use), format_name)


def start(network: Network, format_name: str = "", threads: int = 0) -> Opened:
    """Open a network that is on disk."""
    reasons = []
    for name in [format_name] if format_name else formats.registry.names():
        engine = formats.registry.get(name)()
        reason = engine.supports(network)
        if not reason:
            precision, cores = engine.precisions()[0], threads or core_count()
            return Opened(network, engine.open(network, precision, cores), name, precision, cores)
        reasons.append(f"{name}: {reason}")
    raise HubError(f"No engine can run '{network.backbone.reference}': {'; '.join(reasons)}.")


def open_for(bundle: Bundle, progress: Progress) -> Opened | None:
    """Open the network that a bundle was fitted with: the vendored one, else from its hub; None where it has none."""
    if not (bundle.path / "backbone.json").is_file():
        return None
    spec = bundle.json("backbone.json")
    if spec["portable"]:
        return open_network(f"local:{(bundle.path / 'backbone').resolve()}", spec["checksum"], progress, spec["format"])
    try:
        return open_network(spec["reference"], spec["checksum"], progress, spec["format"])
    except HubError as error:
        raise BundleError(
            f"The bundle '{bundle.path}' needs the backbone {spec['reference']}: {error.problem}",
            allowed=error.allowed,
            hint=error.hint or "Fit with --portable to carry the backbone inside the bundle.",
        ) from error


def vendor(network: Network, folder: Path) -> None:
    """Copy the network's files into a bundle."""
    for file in sorted(network.folder.rglob("*")):
        name = file.relative_to(network.folder)
        if file.suffix in (".json", ".safetensors", ".txt") and not any(part.startswith(".") for part in name.parts):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(file.read_bytes())
