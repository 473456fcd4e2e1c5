"""Read a model folder as transformers, sentence-transformers, timm and diffusers lay it out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError, listed
from headstart.core.files import sha256
from headstart.core.trust import need_trust
from headstart.hubs import _images, _names, _transformers, _vision
from headstart.hubs._json import read_json

WEIGHTS = "model.safetensors"
WEIGHT_FILES = (WEIGHTS, f"{WEIGHTS}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where a model's weights are: the first of these that is there. The `.bin` files are read as tensors only."""
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
TIMM_HEADS = ("classifier", "fc", "head", "head.fc", "last_linear", "classif")
"""What timm calls the layer that gives classes."""
TIMM_HIDDEN = ("conv_head", "pre_logits.fc2")
"""What timm calls the last layer before it, where the head has one."""
FILES = ("config.json", WEIGHTS, "tokenizer.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
"""The files that a text encoder is made of; all but the first three may be absent."""


def open_folder(folder: Path, backbone: Backbone, checksum: str = "") -> Network:
    """Return the network that a folder holds.

    Args:
        folder: has `config.json`, weights, and what prepares the inputs; or the `model_index.json` of diffusers.
        backbone: the reference that led here.
        checksum: the weights' SHA-256 where it has been computed already.

    Raises:
        HubError: a file is missing or of a kind that cannot be read safely.
    """
    if (folder / "model_index.json").is_file():
        return _of_diffusers(folder, backbone, checksum)
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise HubError(f"'{folder / 'config.json'}' does not describe a model.")
    need_no_code(folder, config, backbone.reference)
    weights = find_weights(folder)
    parts = shards(weights)
    known = replace(
        backbone,
        checksum=checksum or digest(parts),
        parameters=sum(sum(tensor_sizes(each).values()) for each in parts if each.suffix == ".safetensors"),
        size=sum(each.stat().st_size for each in parts),
        cached=True,
    )
    if is_timm(config):
        return _of_timm(folder, config, weights, known)
    return _of_transformers(folder, config, weights, known)


def is_timm(config: Mapping[str, Any]) -> bool:
    """Return whether a `config.json` is one of timm's."""
    return "pretrained_cfg" in config or ("architecture" in config and "model_type" not in config)


def need_no_code(folder: Path, config: Mapping[str, Any], reference: str) -> None:
    """Raise HubError where a model can only be built by its own code, unless the user trusts it.

    Raises:
        HubError: the user has not said so.
    """
    if config.get("auto_map"):
        files = sorted(str(each.relative_to(folder)) for each in folder.rglob("*.py"))
        named = {str(each).rpartition("--")[2].partition(".")[0] + ".py" for each in _flat(config["auto_map"].values())}
        need_trust(reference, files or sorted(named))


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for each in values:
        yield from (each for each in each if each) if isinstance(each, (list, tuple)) else [each]


def find_weights(folder: Path) -> Path:
    """Return a folder's weights file, or the index of its weights files.

    Raises:
        HubError: it has none.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(each.name for each in folder.glob("*.bin"))
    raise HubError(
        f"'{folder}' has no {WEIGHTS}" + (f"; it has {listed(others)}, which may hold code" if others else "") + ".",
        allowed=f"Weights are one of {listed(WEIGHT_FILES)}.",
        hint="Save the model again with: model.save_pretrained(folder, safe_serialization=True)" if others else "",
    )


def shards(weights: Path) -> list[Path]:
    """Return the files that hold the weights: one, or those that an index names.

    Raises:
        HubError: one of them is missing, or the index leads out of its folder.
    """
    if not weights.name.endswith(".index.json"):
        return [weights]
    named = sorted(set(read_json(weights).get("weight_map", {}).values()))
    if not named or any("/" in each or each.startswith(".") for each in named):
        raise HubError(f"'{weights}' is not an index of weights.")
    missing = [each for each in named if not (weights.parent / each).is_file()]
    if missing:
        raise HubError(f"'{weights.parent}' has no {listed(missing)}, which its index names.")
    return [weights.parent / each for each in named]


def digest(parts: list[Path]) -> str:
    """Return the SHA-256 of one file, or of the SHA-256s of several."""
    if len(parts) == 1:
        return sha256(parts[0])
    return hashlib.sha256("".join(sha256(each) for each in parts).encode()).hexdigest()


def _of_transformers(folder: Path, config: dict[str, Any], weights: Path, known: Backbone) -> Network:
    told = _transformers.preprocessor_of(folder)
    modality = _transformers.modality_of(config, told)
    pooling: dict[str, Any] = {}
    preprocessing = dict(told)
    if modality == "text":
        pooling, limit = _modules(folder)
        preprocessing = _text(folder, config, limit)
    elif modality == "image":
        preprocessing = _images.of_transformers(told)
        if config.get("num_channels") in _images.OTHER:
            preprocessing["channels"] = _images.OTHER[config["num_channels"]]
    return Network(
        folder=folder,
        architecture=str(config.get("model_type", "")),
        config=config,
        weights=weights,
        backbone=replace(
            known,
            modality=modality,
            width=_transformers.width_of(config),
            uses=known.uses or _transformers.uses_of(config, modality, (folder / "modules.json").is_file()),
        ),
        preprocessing=preprocessing,
        pooling=pooling,
        labels=_transformers.labels_of(config),
    )


def _text(folder: Path, config: dict[str, Any], limit: int | None) -> dict[str, Any]:
    if not (folder / "tokenizer.json").is_file():
        raise HubError(
            f"'{folder}' has no tokenizer.json.",
            hint="Save it with a fast tokenizer: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        )
    return {"tokenizer": "tokenizer.json", "max_length": _transformers.max_length(folder, config, limit)}


def _of_timm(folder: Path, config: dict[str, Any], weights: Path, known: Backbone) -> Network:
    told = config.get("pretrained_cfg") or {}
    named = config.get("label_names") or told.get("label_names") or ()
    classes = int(config.get("num_classes") or 0)
    return Network(
        folder=folder,
        architecture=str(config["architecture"]),
        config=config,
        weights=weights,
        backbone=replace(
            known,
            modality="image",
            width=timm_width(config, weights),
            licence=known.licence or str(told.get("license") or ""),
            uses=known.uses or (("classify", "embed") if classes else ("embed",)),
        ),
        preprocessing=_images.of_timm(told),
        library="timm",
        labels=tuple(str(each) for each in named) or tuple(_vision.class_names(weights, _names.known(classes))),
    )


def timm_width(config: Mapping[str, Any], weights: Path) -> int:
    """Return how many numbers the head of a timm network reads, from the shapes of its tensors.

    `num_features` is what comes before the head, and some heads (MobileNetV3's, VGG's) are more than one layer.
    """
    told = config.get("pretrained_cfg") or {}
    shapes = tensor_shapes(weights) if weights.suffix == ".safetensors" else {}
    named = told.get("classifier") or config.get("classifier") or ()
    classes = int(config.get("num_classes") or 0)
    for name in (named,) if isinstance(named, str) else (*named, *TIMM_HEADS):
        shape = shapes.get(f"{name}.weight", ())
        if len(shape) > 1 and shape[0] == classes:
            return shape[1]
    for name in TIMM_HIDDEN:
        if len(shapes.get(f"{name}.weight", ())) > 1:
            return shapes[f"{name}.weight"][0]
    return int(config.get("num_features") or 0)


def _of_diffusers(folder: Path, backbone: Backbone, checksum: str) -> Network:
    index = read_json(folder / "model_index.json")
    foreign = sorted(str(each.relative_to(folder)) for each in folder.rglob("*.py"))
    if foreign:
        need_trust(backbone.reference, foreign)
    parts = sorted(folder.rglob("*.safetensors"))
    if not parts:
        raise HubError(f"'{folder}' has no safetensors files.", allowed="Weights are read from safetensors files only.")
    return Network(
        folder=folder,
        architecture=str(index.get("_class_name", "")),
        config=index,
        weights=folder / "model_index.json",
        backbone=replace(
            backbone,
            checksum=checksum or digest(parts),
            modality="text",
            parameters=sum(sum(tensor_sizes(each).values()) for each in parts),
            size=sum(each.stat().st_size for each in parts),
            cached=True,
            uses=backbone.uses or ("imagine",),
        ),
        library="diffusers",
    )


def _modules(folder: Path) -> tuple[dict[str, Any], int | None]:
    """Return how sentence-transformers pools, and its `max_seq_length`; mean and none where it did not write them."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return {"mode": "mean", "normalize": True}, None
    kinds = {str(each["type"]).rpartition(".")[2]: str(each["path"]) for each in read_json(listing)}
    unknown = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if unknown:
        raise HubError(
            f"'{folder}' has the module {listed(sorted(unknown))} after its encoder.",
            allowed="Transformer, Pooling and Normalize can be built without torch.",
        )
    settings = read_json(folder / kinds["Pooling"] / "config.json") if "Pooling" in kinds else {}
    chosen = [
        POOLINGS.get(name, name) for name, on in settings.items() if name.startswith("pooling_mode") and on is True
    ]
    mode = settings["pooling_mode"] if isinstance(settings.get("pooling_mode"), str) else (chosen or ["mean"])[0]
    if mode not in POOLINGS.values() or len(chosen) > 1:
        raise HubError(
            f"'{folder}' pools by {listed(chosen or [mode])}.", allowed=f"Poolings: {listed(POOLINGS.values())}."
        )
    limits = folder / "sentence_bert_config.json"
    limit = read_json(limits).get("max_seq_length") if limits.is_file() else None
    return {"mode": mode, "normalize": True}, limit


def tensor_sizes(weights: Path) -> dict[str, int]:
    """Return how many numbers each tensor of a safetensors file has, from its header.

    Raises:
        HubError: it is no such file.
    """
    return {name: math.prod(shape) for name, shape in tensor_shapes(weights).items()}


def tensor_shapes(weights: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a safetensors file, from its header.

    Raises:
        HubError: it is no such file.
    """
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < 100_000_000:
            raise HubError(f"'{weights}' is not a safetensors file.")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise HubError(f"'{weights}' is not a safetensors file, or is cut short.") from error
    return {name: tuple(each["shape"]) for name, each in header.items() if name != "__metadata__"}
