"""Resolve a backbone reference to an opened network."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart import formats, hubs
from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Backbone, Network
from headstart.core.bundle import MANIFEST, Bundle
from headstart.core.errors import BundleError, HubError, MissingExtra, UsageError, listed
from headstart.core.format import Format, Unfit
from headstart.core.gpu import gpu, machine
from headstart.core.progress import Progress
from headstart.core.threads import core_count
from headstart.stages import adapters

DEFAULT = {"text": "builtin:all-MiniLM-L6-v2"}
"""The backbone that `auto` stands for, by modality."""
ADAPTERS = "adapter"
"""The folder of a bundle that holds adapters, by modality."""
SHORT = {"hf": "huggingface", "tfhub": "tensorflowhub", "kaggle": "tensorflowhub"}
"""Short names of hubs."""


@dataclass(frozen=True)
class Opened:
    """A network running on this machine: what it is, with which engine, precision and threads, and in which view.

    Args:
        tuned: the method that changed its weights, which no hub has therefore; empty where they are the hub's.
        adapter: the folder that holds all that was changed, where that is an adapter; `base` is what it was learnt for.
        base: the hub's network, where there is an adapter.
        why: why this engine and this precision, where they were chosen by measuring.
    """

    network: Network
    session: Session
    format: str
    precision: str
    threads: int
    view: Mapping[str, Any] = field(default_factory=dict)
    tuned: str = ""
    adapter: Path | None = None
    base: Network | None = None
    why: str = ""

    def spec(self, portable: bool) -> dict[str, Any]:
        """Return what a bundle records of it, as plain JSON data; what no hub has always travels in the bundle."""
        adapted = self.base is not None and not portable
        backbone = self.base.backbone if self.base and adapted else self.network.backbone
        portable = portable or (bool(self.tuned) and not adapted)
        return {
            "reference": backbone.reference,
            "checksum": backbone.checksum,
            "modality": backbone.modality,
            "licence": backbone.licence,
            "width": backbone.width,
            "parameters": backbone.parameters,
            "size": backbone.size,
            "architecture": self.network.architecture,
            "use": self.network.use,
            "weights": backbone.weights,
            "format": self.format,
            "precision": self.precision,
            "machine": machine(),
            "gpu": gpu(),
            "why": self.why,
            "view": dict(self.view),
            "tuned": self.tuned,
            "adapter": adapted,
            "portable": portable,
        } | (frozen(self.network) if portable else {})


def candidates(modality: str) -> list[str]:
    """Return the backbones that `auto` tries for a modality: the default, then what is on this machine, small first."""
    if modality in DEFAULT:
        return [DEFAULT[modality]]
    found = []
    for name in hubs.registry.names():
        try:
            held = hubs.registry.get(name)().held()
        except MissingExtra:
            continue
        found += [
            each.backbone for each in held if each.backbone.modality == modality and "embed" in each.backbone.uses
        ]
    return [each.reference for each in sorted(found, key=lambda each: each.size)]


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
    if hub == "local" and (Path(backbone.name).expanduser() / MANIFEST).is_file():
        return _of_bundle(replace(backbone, checksum=checksum, weights=weights), progress)
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
    return start(replace(network, use=use), format_name, progress=progress)


@final
class Mirrored(Session):
    """A network that is shown the mirror image of each picture.

    Args:
        inner: the network.
        axis: which axis of `pixels` runs from left to right.
    """

    def __init__(self, inner: Session, axis: int) -> None:
        self.inner, self.axis = inner, axis

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the outputs of the mirror images."""
        return self.inner.run({"pixels": np.flip(arrays["pixels"], self.axis)})


@final
class Listening(Session):
    """A network that remembers what it is given."""

    def __init__(self, inner: Session) -> None:
        self.inner, self.heard = inner, list[Arrays]()

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Answer, and remember."""
        self.heard.append({name: np.array(each) for name, each in arrays.items()})
        return self.inner.run(arrays)


def mirrored(opened: Opened) -> Opened:
    """Return an open network of pictures that is shown their mirror images; its vectors are kept apart from others."""
    preprocessing = opened.network.preprocessing
    axis = 3 if preprocessing.get("layout", "nchw") == "nchw" else 2
    network = replace(opened.network, preprocessing={**preprocessing, "mirrored": True})
    return replace(opened, network=network, session=Mirrored(opened.session, axis))


def viewed(network: Network, view: Mapping[str, Any]) -> Network:
    """Return a network that looks at its inputs in another way than it was published with.

    Args:
        view: `whole` (the whole picture, stretched, in place of its centre), `layers` (how many depths of the network
            its vector is made of), `textures` (mean, spread and maximum of the maps on its way are part of it).

    Raises:
        HubError: there is no such view.
    """
    if unknown := sorted(set(view) - {"whole", "layers", "textures"}):
        raise HubError(
            f"It looks at pictures in a way that is not known here: {listed(unknown)}.",
            hint="The bundle was made by another version of headstart; fit it again with this one.",
        )
    preprocessing, pooling = dict(network.preprocessing), dict(network.pooling)
    if view.get("whole") and preprocessing.get("crop"):
        preprocessing |= {"size": list(preprocessing["crop"]), "crop": None}
    if view.get("layers"):
        pooling["layers"] = int(view["layers"])
    if view.get("textures"):
        pooling["textures"] = True
    return replace(network, preprocessing=preprocessing, pooling=pooling)


def start(
    network: Network, format_name: str = "", threads: int = 0, precision: str = "", progress: Progress | None = None
) -> Opened:
    """Open a network that is on disk with the first engine that can, the named one alone where one is named.

    Args:
        precision: what it is computed in, where the engine offers that; else what the engine offers first.
        progress: is told what takes seconds.

    Raises:
        HubError: none can; the sentence gives each one's reason.
    """
    reasons = []
    names = [format_name] if format_name else formats.registry.names()
    engines = {name: formats.registry.get(name)() for name in names}
    while engines:
        name, engine = min(engines.items(), key=lambda each: each[1].rank)
        rank, reason = engine.rank, engine.supports(network)
        if engine.rank > rank:
            continue  # PyTorch, imported just now, cannot use the GPU that is here: the others are asked before it.
        del engines[name]
        if not reason:
            offered, cores = engine.offered(network), threads or core_count()
            chosen = precision if precision in offered else offered[0]
            if progress is not None and (once := engine.ahead(network)):
                progress.say(f"opening {network.backbone.reference} for the first time: {once}")
            try:
                session = engine.open(network, chosen, cores)
            except Unfit as error:
                reason = error.problem
            else:
                return Opened(network, session, name, chosen, cores)
        reasons.append(f"{name}: {reason}")
    # What can be installed is what helps.
    reasons.sort(key=lambda reason: "pip install" not in reason)
    raise HubError(f"No engine can run '{network.backbone.reference}': {'; '.join(reasons)}.")


def engines_of(network: Network, own: str) -> Iterator[tuple[str, Format]]:
    """Yield the engines that can run an open network here: its own first, then those that import quickly, by rank."""
    known = {}
    for name in formats.registry.names():
        with contextlib.suppress(MissingExtra):
            known[name] = formats.registry.get(name)()
    for name, engine in sorted(known.items(), key=lambda each: (each[0] != own, each[1].rank)):
        if name == own or not (engine.heavy or engine.supports(network)):
            yield name, engine


def summary(opened: Mapping[str, Opened]) -> dict[str, Any] | None:
    """Return what a report says of the networks: one alone as it is, several summed up; None where there is none."""
    specs = [each.spec(False) for each in opened.values()]
    if len(specs) < 2:
        return specs[0] if specs else None
    joined = {name: " + ".join(each[name] for each in specs) for name in ("reference", "modality", "format", "licence")}
    return {
        **joined,
        "architecture": ", ".join(each["architecture"] for each in specs),
        "checksum": ", ".join(each["checksum"] for each in specs),
        **{name: sum(each[name] for each in specs) for name in ("width", "parameters", "size")},
        "portable": False,
        "each": specs,
    }


def specs_of(bundle: Bundle) -> dict[str, Any]:
    """Return what a bundle records of its networks, by modality."""
    return bundle.json("backbones.json") if (bundle.path / "backbones.json").is_file() else {}


def open_one(bundle: Bundle, modality: str, spec: Mapping[str, Any], progress: Progress) -> Opened:
    """Open the network that a bundle reads a modality with.

    Raises:
        BundleError: it cannot be had, or not be opened.
    """
    try:
        network = _network_of(bundle, modality, spec, progress)
        return replace(_restart(viewed(network, spec["view"]), spec), tuned=spec.get("tuned", ""))
    except HubError as error:
        raise BundleError(
            f"The bundle '{bundle.path}' needs the backbone {spec['reference']}: {error.problem}",
            allowed=error.allowed,
            hint=error.hint or "Fit with --portable to carry the backbone inside the bundle.",
        ) from error


def _network_of(bundle: Bundle, modality: str, spec: Mapping[str, Any], progress: Progress) -> Network:
    if spec["portable"]:
        return thaw(bundle.path / "backbone" / modality, spec)
    network = fetch(spec["reference"], spec["checksum"], progress, spec["weights"])
    return adapters.merged(network, bundle.path / ADAPTERS / modality) if spec.get("adapter") else network


def _of_bundle(backbone: Backbone, progress: Progress) -> Network:
    """Return the network that a bundle was fitted with, as tuning has left it, as a backbone of others."""
    bundle = Bundle.open(Path(backbone.name).expanduser())
    specs = bundle.json("backbones.json") if (bundle.path / "backbones.json").is_file() else {}
    if len(specs) != 1 or backbone.weights:
        told = f"is a model of {len(specs) or 'no'} networks" if not backbone.weights else "brings its own weights"
        raise HubError(f"The bundle '{bundle.path}' {told}.", allowed="A bundle that was fitted on one network.")
    modality, spec = next(iter(specs.items()))
    network = _network_of(bundle, modality, spec, progress)
    if backbone.checksum not in ("", network.backbone.checksum):
        raise HubError(
            f"The network of the bundle '{bundle.path}' is not the one that was used before: its SHA-256 differs.",
            hint="Put the earlier bundle back, or fit again.",
        )
    known = replace(network.backbone, hub="local", name=backbone.name, revision="", weights="")
    return replace(network, backbone=known, use="embed")


def _restart(network: Network, spec: Mapping[str, Any]) -> Opened:
    """Open a bundle's network as it was measured to be fastest; on another machine as that machine runs it best.

    Raises:
        HubError: neither the engine that the bundle names nor any other can.
    """
    same = spec.get("machine") == machine()
    # What was fastest on a GPU is hardly so without one.
    named = "" if spec.get("gpu") and not gpu() else spec["format"]
    try:
        return start(network, named, precision=spec.get("precision", "") if same else "")
    except (HubError, MissingExtra, UsageError) as error:
        try:
            return start(network)
        except HubError:
            raise error from None


KEPT = (".json", ".safetensors", ".txt", ".model", ".jinja", ".onnx", ".xml", ".bin", ".pth", ".pt", ".th", ".h5",
        ".keras", ".tflite", ".pb", ".index", ".data-00000-of-00001")  # fmt: skip
"""Suffixes of the files that a network is made of."""


def vendor(opened: Opened, folder: Path) -> None:
    """Copy the network's files into a bundle: its whole folder, or its one file where it has no folder of its own.

    What the engine worked out from them goes along, so that it opens alike where PyTorch is not installed.
    """
    network = opened.network
    # A graph in OpenVINO's own layout is two files, in a folder of their own.
    whole = (network.folder / "config.json").is_file() or network.weights.is_dir() or network.weights.suffix == ".xml"
    files = sorted(network.folder.rglob("*")) if whole else [network.weights]
    for file in files:
        name = file.relative_to(network.folder)
        if file.is_file() and file.suffix in KEPT and not any(part.startswith(".") for part in name.parts):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
    for called, made in formats.registry.get(opened.format)().worked_out(network).items():
        shutil.copytree(made, folder / called, dirs_exist_ok=True)


def frozen(network: Network) -> dict[str, Any]:
    """Return what `thaw` needs besides the files, as plain JSON data."""
    return {
        "library": network.library,
        "config": dict(network.config),
        "preprocessing": dict(network.preprocessing),
        "pooling": dict(network.pooling),
        "uses": list(network.backbone.uses),
        "file": network.weights.relative_to(network.folder).as_posix(),
        "labels": list(network.labels),
    }


def thaw(folder: Path, spec: Mapping[str, Any]) -> Network:
    """Return the network that a bundle carries in `folder`; the bundle's own hashes have been checked."""
    parsed = Backbone.parse(spec["reference"])
    known = {name: spec[name] for name in ("checksum", "licence", "width", "parameters", "size")}
    return Network(
        folder=folder.resolve(),
        architecture=spec["architecture"],
        config=spec["config"],
        weights=folder.resolve() / spec["file"],
        backbone=replace(parsed, **known, modality=spec["modality"], cached=True, uses=spec["uses"]),
        preprocessing=spec["preprocessing"],
        pooling=spec["pooling"],
        library=spec["library"],
        use=spec.get("use", "embed"),
        labels=spec["labels"],
    )
