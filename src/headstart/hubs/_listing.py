"""What the Hugging Face Hub, and its cache, tell about models without opening them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.core.backbone import Backbone
from headstart.core.errors import HubError
from headstart.hubs import _folder, _licences, _transformers
from headstart.hubs._json import read_json

TAGS = {
    "fill-mask": ("text", "fill_mask"),
    "sentence-similarity": ("text", "embed"),
    "feature-extraction": ("text", "embed"),
    "text-classification": ("text", "classify"),
    "zero-shot-classification": ("text", "zero_shot"),
    "token-classification": ("text", "tag_tokens"),
    "question-answering": ("text", "answer"),
    "text-generation": ("text", "generate"),
    "text-to-image": ("text", "imagine"),
    "image-classification": ("image", "classify"),
    "image-feature-extraction": ("image", "embed"),
    "object-detection": ("image", "detect"),
    "automatic-speech-recognition": ("audio", "transcribe"),
    "audio-classification": ("audio", "classify"),
}
"""The hub's own names of tasks, with what is read and what is done."""
BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
EXPANDED = ["pipeline_tag", "tags", "safetensors", "downloads", "model-index", "library_name", "gated", "sha"]


def listed(api: Any, query: str, modality: str, limit: int) -> list[Backbone]:
    """Return the models that the hub lists, the most fetched first."""
    tags = [tag for tag, (reads, _) in TAGS.items() if reads == modality] if modality else [None]
    found: dict[str, Any] = {}
    for tag in tags:
        for each in api.list_models(
            search=query or None, pipeline_tag=tag, sort="downloads", limit=limit, expand=EXPANDED
        ):
            found[each.id] = each
    ordered = sorted(found.values(), key=lambda each: -(each.downloads or 0))
    return [_of_listing(each) for each in ordered[:limit]]


def _of_listing(told: Any) -> Backbone:
    reads, does = TAGS.get(told.pipeline_tag or "", ("text", ""))
    counts: Mapping[str, int] = (told.safetensors or {}).get("parameters") or {}
    total = int((told.safetensors or {}).get("total") or sum(counts.values()))
    licence = next((tag.partition(":")[2] for tag in told.tags or [] if tag.startswith("license:")), "")
    return Backbone(
        hub="huggingface",
        name=told.id,
        modality=reads,
        licence=_licences.spdx(licence),
        parameters=total,
        size=sum(BYTES.get(kind, 1) * count for kind, count in counts.items()) or 4 * total,
        accuracy=_accuracy(told.model_index),
        uses=(does,) if does else (),
    )


def _accuracy(index: Any) -> float:
    """Return the first accuracy of a model card's own results, in per cent."""
    text = str(index or "")
    found = re.search(r"'type': '(?:accuracy|top_1_accuracy)'[^{}]*?'value': ([0-9.]+)", text)
    value = float(found[1]) if found else 0.0
    return value * 100 if 0 < value <= 1 else value


def described(name: str, folder: Path) -> Backbone | None:
    """Return what a fetched repository is, from its configuration; None where it holds no model."""
    known = Backbone("huggingface", name, licence=_licences.of_card(folder), cached=True)
    try:
        if (folder / "model_index.json").is_file():
            return _with(known, "text", ("imagine",), 0)
        config = read_json(folder / "config.json")
        parts = _folder.shards(_folder.find_weights(folder))
        tensors = [_folder.tensor_sizes(each) for each in parts if each.suffix == ".safetensors"]
    except HubError:
        models = [each for each in folder.rglob("*") if each.suffix in (".onnx", ".tflite", ".keras", ".h5", ".pb")]
        return _with(known, "image", ("embed",), 0) if models else None
    weights = sum(sum(each.values()) for each in tensors)
    known = replace(known, parameters=weights, size=sum(each.stat().st_size for each in parts))
    if _folder.is_timm(config):
        made_for = ("classify", "embed")[0 if config.get("num_classes") else 1 :]
        return _with(known, "image", made_for, _folder.timm_width(config, parts[0]))
    modality = _transformers.modality_of(config, _transformers.preprocessor_of(folder))
    uses = _transformers.uses_of(config, modality, (folder / "modules.json").is_file())
    return _with(known, modality, uses, _transformers.width_of(config))


def _with(known: Backbone, modality: str, uses: tuple[str, ...], width: int) -> Backbone:
    return replace(known, modality=modality, uses=uses, width=width)
