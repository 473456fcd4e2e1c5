"""torchvision's models and their published weights."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit, urlunsplit

from headstart.core.backbone import Backbone, Held, Hub, Network
from headstart.core.errors import HubError, UsageError, listed, nearest
from headstart.core.files import atomic_file, cache_folder
from headstart.core.progress import Progress
from headstart.core.registry import require
from headstart.hubs import _vision

MIRROR = "TORCHVISION_ENDPOINT"
"""The environment variable that puts a mirror in the place of the host of the published weights."""
MODULES = {
    "torchvision.models": ("classify", "embed"),
    "torchvision.models.detection": ("detect",),
}
"""The kinds of models that can be used, and for what."""
LIMITED = "CC-BY-NC-4.0"
"""The licence of the weights that torchvision takes from SWAG; all others come under its own."""
LICENCE = "BSD-3-Clause"


@final
class Torchvision(Hub):
    """`torchvision:NAME`, such as `torchvision:mobilenet_v2`, or with weights by name: `…@IMAGENET1K_V2`.

    Weights: the file of `--weights`; else the published ones, from PyTorch's own cache or fetched into it. The
    revision `random` takes none.
    """

    def search(self, query: str) -> list[Backbone]:
        """Return the models of torchvision whose name contains `query`, with their default weights."""
        found = []
        for name, uses in sorted(_models().items()):
            if query.casefold() in name and (published := list(_published(name))):
                best = _default(name) or published[0]
                found.append(replace(_described(name, best, uses), revision="", cached=_kept(best).is_file()))
        return found

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the architecture with its weights, fetched where they are not on this machine.

        Raises:
            HubError: there is no such model or weights, or they cannot be had or are damaged.
        """
        models = _models()
        if backbone.name not in models:
            raise HubError(
                f"torchvision has no model '{backbone.name}' for classes, vectors or boxes.",
                allowed=f"Its models: {listed(sorted(models))}.",
                hint=nearest(backbone.name, models),
            )
        uses = models[backbone.name]
        weights = _vision.given(backbone)
        published = _wanted(backbone, weights)
        labels = [str(each) for each in published.meta.get("categories", [])] if published else []
        if weights is None:
            weights = _random(backbone.name) if published is None else _fetched(published, progress)
        else:
            labels = _vision.class_names(weights, labels)
        known = _described(backbone.name, published, uses)
        return Network(
            folder=weights.parent,
            architecture=backbone.name,
            config=_config(backbone.name, published),
            weights=weights,
            backbone=replace(
                known,
                revision=backbone.revision if backbone.weights or published is None else known.revision,
                checksum=_vision.verified(backbone, weights),
                width=_width(backbone.name) if "embed" in uses else 0,
                size=weights.stat().st_size,
                cached=True,
                weights=str(weights) if backbone.weights else "",
                accuracy=0.0 if backbone.weights else known.accuracy,
            ),
            preprocessing=_preprocessing(published, uses),
            library="torchvision",
            labels=labels,
        )

    def held(self) -> list[Held]:
        """Return the models whose published weights are in PyTorch's cache."""
        found: list[Held] = []
        if not any((_vision.torch_home() / "hub" / "checkpoints").glob("*.pth")):
            return found
        for name, uses in sorted(_models().items()):
            for each in _published(name):
                if (file := _kept(each)).is_file():
                    known = replace(_described(name, each, uses), cached=True)
                    found.append(Held(known, file, file.stat().st_size))
        return found

    def remove(self, backbone: Backbone) -> int:
        """Remove a model's published weights from PyTorch's cache."""
        for each in self.held():
            if each.backbone.name == backbone.name and backbone.revision in ("", each.backbone.revision):
                each.place.unlink()
                return each.size
        return super().remove(backbone)


def _models() -> dict[str, tuple[str, ...]]:
    models = require("torchvision.models", "torchvision")
    return {
        name: uses
        for module, uses in MODULES.items()
        for name in models.list_models(module=require(module, "torchvision"))
    }


def _published(name: str) -> Iterator[Any]:
    yield from require("torchvision.models", "torchvision").get_model_weights(name)


def _default(name: str) -> Any:
    return getattr(require("torchvision.models", "torchvision").get_model_weights(name), "DEFAULT", None)


def _config(name: str, published: Any) -> dict[str, bool]:
    """Return what the architecture must be told, because the published weights were trained so."""
    if published is None:
        return {}
    if name in ("inception_v3", "googlenet"):
        return {"transform_input": True}
    return (
        {"without_epsilon": True}
        if name.endswith(("rcnn_resnet50_fpn", "retinanet_resnet50_fpn")) and published.name == "COCO_V1"
        else {}
    )


def _wanted(backbone: Backbone, weights: Path | None) -> Any:
    """Return the published weights that are asked for, or whose preprocessing and classes a given file is of."""
    every = {each.name: each for each in _published(backbone.name)}
    if backbone.revision == _vision.RANDOM:
        return None
    if backbone.revision:
        if backbone.revision not in every:
            raise HubError(
                f"torchvision has no weights '{backbone.revision}' of '{backbone.name}'.",
                allowed=f"Its weights: {listed([*every, _vision.RANDOM])}.",
                hint=nearest(backbone.revision, every),
            )
        return every[backbone.revision]
    if weights is not None:
        named = (each for each in every.values() if Path(urlsplit(each.url).path).name == weights.name)
        return next(named, next(iter(every.values()), None))
    if not every:
        raise HubError(
            f"torchvision publishes no weights of '{backbone.name}'.",
            hint=f"Give a file with --weights, or take random ones: torchvision:{backbone.name}@{_vision.RANDOM}",
        )
    return _default(backbone.name) or next(iter(every.values()))


def _kept(published: Any) -> Path:
    return _vision.torch_home() / "hub" / "checkpoints" / Path(urlsplit(published.url).path).name


def _fetched(published: Any, progress: Progress) -> Path:
    from headstart.core.download import fetch
    from headstart.core.http import Wanted

    file = _kept(published)
    mirror = urlsplit(os.environ.get(MIRROR, ""))
    parts = urlsplit(published.url)
    if mirror.netloc:
        parts = parts._replace(
            scheme=mirror.scheme, netloc=mirror.netloc, path=mirror.path.rstrip("/") + "/" + parts.path.lstrip("/")
        )
    fetch(Wanted(urlunsplit(parts), file.name, "torchvision"), file, progress)
    told = re.search(r"-([0-9a-f]{8,})\.", file.name)
    found = _vision.verified(replace(Backbone.parse("torchvision:-")), file)
    if told and not found.startswith(told[1]):
        raise HubError(
            f"The weights '{file.name}' are damaged: their SHA-256 begins with {found[:8]}, not with {told[1]}.",
            hint=f"Remove '{file}' and run it again.",
        )
    return file


def _random(name: str) -> Path:
    """Return a file of random weights, always the same ones, made where it is not there yet."""
    from safetensors.torch import save_file

    torch = require("torch", "torchvision")
    models = require("torchvision.models", "torchvision")
    file = cache_folder() / "models" / "torchvision-random" / f"{name}.safetensors"
    if not file.is_file():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            options: dict[str, Any] = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}
            if MODULES["torchvision.models.detection"] == _models()[name]:
                options["weights_backbone"] = None
            tensors = models.get_model(name, weights=None, **options).state_dict()
        with atomic_file(file) as part:
            save_file({key: each.contiguous().clone() for key, each in tensors.items()}, part)
    return file


def _described(name: str, published: Any, uses: tuple[str, ...]) -> Backbone:
    about = published.meta if published is not None else {}
    metrics: dict[str, Any] = next(iter(about.get("_metrics", {}).values()), {})
    own = str(about.get("license", ""))
    return Backbone(
        hub="torchvision",
        name=name,
        revision=published.name if published is not None else _vision.RANDOM,
        modality="image",
        licence=LIMITED if "SWAG" in own else LICENCE,
        parameters=int(about.get("num_params", 0)),
        size=int(float(about.get("_file_size", 0)) * 1e6),
        accuracy=float(metrics.get("acc@1", 0.0)),
        uses=uses,
    )


def _preprocessing(published: Any, uses: tuple[str, ...]) -> dict[str, Any]:
    """Return what the weights' own transforms do; of an architecture alone, what most do."""
    if uses == ("detect",):
        return {"size": None, "scale": _vision.SCALE, "mean": None, "std": None}
    known = {"size": 256, "crop": [224, 224], "interpolation": "bilinear", "scale": _vision.SCALE, "centre": "round"}
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    if published is None:
        return known | imagenet
    own = published.transforms()
    size, crop = _vision.plain(own.resize_size), _vision.plain(own.crop_size)
    if not isinstance(size, list) or len(size) > 2:
        raise UsageError(f"The transforms of '{published}' resize to {size}, which is not known here.")
    return known | {
        "size": size[0] if len(size) == 1 else size,
        "crop": crop * 2 if len(crop) == 1 else crop,
        "interpolation": own.interpolation.value,
        "mean": _vision.plain(own.mean),
        "std": _vision.plain(own.std),
    }


def _width(name: str) -> int:
    """Return how many numbers stand before the last layer, from the architecture alone, without weights."""
    torch = require("torch", "torchvision")
    with torch.device("meta"):
        options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
        module = require("torchvision.models", "torchvision").get_model(name, weights=None, **options)
    last = [each for each in module.modules() if isinstance(each, torch.nn.Linear)]
    if last:
        return int(last[-1].in_features)
    convolutions = [each for each in module.modules() if isinstance(each, torch.nn.Conv2d)]
    return int(convolutions[-1].in_channels)
