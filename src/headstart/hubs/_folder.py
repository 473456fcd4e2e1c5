"""Read a model folder as transformers and sentence-transformers lay it out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError, listed
from headstart.core.files import sha256

WEIGHTS = "model.safetensors"
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
FILES = ("config.json", WEIGHTS, "tokenizer.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
"""The files that a network is made of; all but the first three may be absent."""


def open_folder(folder: Path, backbone: Backbone, checksum: str = "") -> Network:
    """Return the network that a folder holds.

    Args:
        folder: has `config.json`, `model.safetensors`, `tokenizer.json`, and `modules.json` where
            sentence-transformers wrote it.
        backbone: the reference that led here.
        checksum: the weights' SHA-256 where it has been computed already.

    Raises:
        HubError: a file is missing or of a kind that cannot be read safely.
    """
    config = _json(folder / "config.json")
    weights = folder / WEIGHTS
    if not weights.is_file():
        others = sorted(each.name for each in folder.glob("*.bin"))
        raise HubError(
            f"'{folder}' has no {WEIGHTS}"
            + (f"; it has {listed(others)}, which may hold code" if others else "")
            + ".",
            allowed="Weights are read from safetensors files only.",
            hint="Save the model again with: model.save_pretrained(folder, safe_serialization=True)" if others else "",
        )
    if not (folder / "tokenizer.json").is_file():
        raise HubError(
            f"'{folder}' has no tokenizer.json.",
            hint="Save it with a fast tokenizer: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        )
    pooling, limit = _modules(folder)
    lengths = [limit, config.get("max_position_embeddings", 512)]
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
        lengths[1] -= config.get("pad_token_id", 1) + 1
    tensors = _tensor_sizes(weights)
    return Network(
        folder=folder,
        architecture=str(config.get("model_type", "")),
        config=config,
        weights=weights,
        backbone=replace(
            backbone,
            checksum=checksum or sha256(weights),
            width=int(config.get("hidden_size") or config.get("dim") or 0),
            parameters=sum(tensors.values()),
            size=weights.stat().st_size,
            cached=True,
            uses=backbone.uses or ("embed",),
        ),
        preprocessing={"tokenizer": "tokenizer.json", "max_length": int(min(each for each in lengths if each))},
        pooling=pooling,
    )


def _modules(folder: Path) -> tuple[dict[str, Any], int | None]:
    """Return how sentence-transformers pools, and its `max_seq_length`; mean and none where it did not write them."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return {"mode": "mean", "normalize": True}, None
    kinds = {str(each["type"]).rpartition(".")[2]: str(each["path"]) for each in _json(listing)}
    unknown = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if unknown:
        raise HubError(
            f"'{folder}' has the module {listed(sorted(unknown))} after its encoder.",
            allowed="Transformer, Pooling and Normalize can be built without torch.",
        )
    settings = _json(folder / kinds["Pooling"] / "config.json") if "Pooling" in kinds else {}
    chosen = [
        POOLINGS.get(name, name) for name, on in settings.items() if name.startswith("pooling_mode") and on is True
    ]
    mode = settings["pooling_mode"] if isinstance(settings.get("pooling_mode"), str) else (chosen or ["mean"])[0]
    if mode not in POOLINGS.values() or len(chosen) > 1:
        raise HubError(
            f"'{folder}' pools by {listed(chosen or [mode])}.", allowed=f"Poolings: {listed(POOLINGS.values())}."
        )
    limits = folder / "sentence_bert_config.json"
    limit = _json(limits).get("max_seq_length") if limits.is_file() else None
    return {"mode": mode, "normalize": True}, limit


def _tensor_sizes(weights: Path) -> dict[str, int]:
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < 100_000_000:
            raise HubError(f"'{weights}' is not a safetensors file.")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise HubError(f"'{weights}' is not a safetensors file, or is cut short.") from error
    return {name: math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__"}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HubError(
            f"'{path.parent}' has no {path.name}: it is not a model folder.",
            allowed="A model folder has config.json, model.safetensors and tokenizer.json.",
        ) from error
    except (OSError, ValueError) as error:
        raise HubError(f"'{path}' cannot be read as JSON: {error}.") from error
