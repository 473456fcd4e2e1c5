"""timm's models, whose weights lie on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import replace
from typing import Any, final

from headstart.core.backbone import Backbone, Hub, Network
from headstart.core.errors import HubError, listed, nearest
from headstart.core.files import atomic_file, cache_folder, write_json
from headstart.core.progress import Progress
from headstart.core.registry import require
from headstart.hubs import _images, _licences, _names, _vision, registry
from headstart.hubs._json import read_json

MOST_COUNTED = 60
"""Networks that are built to count their weights, for one list."""
OWNER = "timm"
"""Whose repositories a name without an owner is looked for in."""


@final
class Timm(Hub):
    """`timm:resnet18.a1_in1k`, an architecture and its weights' tag, or `timm:owner/name`, a repository.

    Weights: the file of `--weights`; else those of the Hugging Face Hub, in its cache (HF_HOME). The revision `random`
    takes none; any other one is a revision of the repository.
    """

    def search(self, query: str) -> list[Backbone]:
        """Return the models of timm whose name contains `query`.

        Those fetched lie in the Hugging Face Hub's cache, which lists them among what it holds.
        """
        here = _here()
        names = require("timm", "timm").list_pretrained(f"*{query}*" if query else "")
        told = {name: _known(name) for name in names}
        counted = _counted(told)
        return [
            replace(_described(name, told[name]), cached=name in here, parameters=counted.get(name, 0))
            for name in names
        ]

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the architecture with its weights.

        Raises:
            HubError: there is no such model, or its weights cannot be had or do not fit.
        """
        if not backbone.weights and backbone.revision != _vision.RANDOM:
            return self._of_hub(backbone, progress)
        told = _told(backbone.name)
        architecture = backbone.name.partition(".")[0]
        weights = _vision.given(backbone) or _random(architecture)
        config = {
            "architecture": architecture,
            "num_classes": told.get("num_classes", 1000),
            "pretrained_cfg": _vision.plain({name: each for name, each in told.items() if name != "state_dict"}),
        }
        labels = _labels(config)
        return Network(
            folder=weights.parent,
            architecture=architecture,
            config=config,
            weights=weights,
            backbone=replace(
                _described(backbone.name, told),
                revision=backbone.revision,
                checksum=_vision.verified(backbone, weights),
                width=_width(architecture, {}),
                size=weights.stat().st_size,
                cached=True,
                weights=str(weights) if backbone.weights else "",
            ),
            preprocessing=_vision.plain(_images.of_timm(told)),
            library="timm",
            labels=_vision.class_names(weights, labels) if backbone.weights else labels,
        )

    def _of_hub(self, backbone: Backbone, progress: Progress) -> Network:
        hub = registry.get("huggingface")()
        name = backbone.name.removeprefix("hf-hub:").removeprefix("hf_hub:")
        if "/" not in name:
            told = _told(name)
            name = str(told.get("hf_hub_id") or f"{OWNER}/{_tagged(name, told)}")
        found: Network = hub.fetch(replace(backbone, hub="huggingface", name=name), progress)
        if found.library != "timm":
            raise HubError(
                f"'{backbone.reference}' is not laid out as timm does it.", hint=f"Open it with hf:{name} instead."
            )
        arguments = found.config.get("model_args") or {}
        return replace(
            found,
            labels=found.labels or _labels(found.config),
            backbone=replace(
                found.backbone,
                hub="timm",
                name=backbone.name,
                width=_width(found.architecture, arguments) or found.backbone.width,
            ),
        )

    def remove(self, backbone: Backbone) -> int:
        """Remove a model from the Hugging Face Hub's cache."""
        hub = registry.get("huggingface")()
        name = backbone.name if "/" in backbone.name else f"{OWNER}/{backbone.name}"
        return int(hub.remove(replace(backbone, hub="huggingface", name=name)))


def _here() -> set[str]:
    """Return the names of timm's models in the Hugging Face Hub's cache."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return set()
    held = [each.backbone.name for each in registry.get("huggingface")().held()]
    return {name.partition("/")[2] for name in held if name.startswith(f"{OWNER}/")}


def _told(name: str) -> dict[str, Any]:
    """Return timm's `pretrained_cfg` of a model; of the default weights where the name has no tag."""
    timm = require("timm", "timm")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise HubError(
            f"timm has no architecture '{architecture}'.",
            hint=nearest(architecture, timm.list_models()) or "List them with: headstart models NAME --hub timm",
        )
    known = timm.models.get_arch_pretrained_cfgs(architecture)
    if tag and name not in known:
        raise HubError(
            f"timm has no weights '{tag}' of '{architecture}'.",
            allowed=f"Its weights: {listed(each.partition('.')[2] or each for each in known)}.",
            hint=nearest(name, known),
        )
    return _known(name)


def _tagged(name: str, told: dict[str, Any]) -> str:
    tag = str(told.get("tag") or "")
    return name if "." in name or not tag else f"{name}.{tag}"


def _known(name: str) -> dict[str, Any]:
    found = require("timm", "timm").get_pretrained_cfg(name)
    return dict(found.to_dict()) if found else {}


def _described(name: str, told: dict[str, Any]) -> Backbone:
    classes = int(told.get("num_classes") or 0)
    return Backbone(
        hub="timm",
        name=name,
        modality="image",
        licence=_licences.spdx(str(told.get("license") or "")),
        uses=("classify", "embed") if classes else ("embed",),
    )


def _counted(told: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return how many weights each model has.

    timm does not write that down, so that the networks are built without their weights, which takes a moment. What has
    been counted is remembered, and of a long list only that is told.
    """
    torch, timm = require("torch", "timm"), require("timm", "timm")
    file = cache_folder() / "models" / "timm-parameters.json"
    known: dict[str, int] = read_json(file) if file.is_file() else {}
    keys = {
        name: f"{timm.__version__} {name.partition('.')[0]} {each.get('num_classes', 1000)}"
        for name, each in told.items()
    }
    fresh = {key: name for name, key in keys.items() if key not in known}
    if fresh and len(fresh) <= MOST_COUNTED:
        for key, name in fresh.items():
            with contextlib.suppress(RuntimeError, NotImplementedError, ValueError, TypeError), torch.device("meta"):
                module = timm.create_model(name.partition(".")[0], num_classes=told[name].get("num_classes", 1000))
                known[key] = sum(each.numel() for each in module.parameters())
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, known)
    return {name: known.get(key, 0) for name, key in keys.items()}


def _labels(config: dict[str, Any] | Any) -> list[str]:
    """Return the names of ImageNet's classes, whichever of its subsets a model was trained on."""
    classes = int(config.get("num_classes") or 0)
    if classes == 1000:
        return _names.imagenet()
    data = require("timm.data", "timm")
    subset = data.infer_imagenet_subset({**(config.get("pretrained_cfg") or {}), "num_classes": classes})
    if subset is None:
        return []
    return [str(each) for each in data.ImageNetInfo(subset).label_descriptions()]


def _width(architecture: str, arguments: Any) -> int:
    """Return how many numbers stand before the head, from the architecture alone, without weights."""
    torch = require("torch", "timm")
    timm = require("timm", "timm")
    try:
        with torch.device("meta"):
            module = timm.create_model(architecture, pretrained=False, **dict(arguments))
    except (NotImplementedError, RuntimeError, ValueError, TypeError):
        return 0
    return int(getattr(module, "head_hidden_size", None) or module.num_features)


def _random(architecture: str) -> Any:
    """Return a file of random weights, always the same ones, made where it is not there yet."""
    from safetensors.torch import save_file

    torch = require("torch", "timm")
    file = cache_folder() / "models" / "timm-random" / f"{architecture}.safetensors"
    if not file.is_file():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            tensors = require("timm", "timm").create_model(architecture, pretrained=False).state_dict()
        with atomic_file(file) as part:
            save_file({key: each.contiguous().clone() for key, each in tensors.items()}, part)
    return file
