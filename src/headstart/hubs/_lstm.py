"""Read a folder with a small recurrent language model: a state dict and a vocabulary, as textgenrnn has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError, listed
from headstart.core.files import sha256
from headstart.hubs._json import read_json

OWN = {"max_length": 40, "temperature": 0.5}
"""textgenrnn's settings where the folder has no `…_config.json`: symbols that are read, and how freely it writes."""


def claims(folder: Path) -> bool:
    """Return whether a folder holds such a model: `…_weights….pth` and `…_vocab.json`."""
    return bool(_weights(folder)) and any(folder.glob("*_vocab.json"))


def open_lstm(folder: Path, backbone: Backbone) -> Network:
    """Return the network that a folder holds.

    Raises:
        HubError: it holds several, or a vocabulary that cannot be read.
    """
    weights, vocabularies = _weights(folder), sorted(folder.glob("*_vocab.json"))
    if len(weights) > 1 or len(vocabularies) > 1:
        names = [each.name for each in (*weights, *vocabularies)]
        raise HubError(f"'{folder}' holds several models: {listed(names)}.", hint="Keep one in a folder.")
    vocabulary = read_json(vocabularies[0])
    if not isinstance(vocabulary, dict) or not all(isinstance(each, int) for each in vocabulary.values()):
        raise HubError(f"'{vocabularies[0]}' is no vocabulary.", allowed='It looks like {"a": 1, "b": 2}.')
    settings = next(iter(sorted(folder.glob("*_config.json"))), None)
    told = {**OWN, **(read_json(settings) if settings else {})}
    return Network(
        folder=folder,
        architecture="textgenrnn",
        config={"window": int(told["max_length"]), "temperature": float(told["temperature"])},
        weights=weights[0],
        backbone=replace(
            backbone,
            checksum=sha256(weights[0]),
            modality="text",
            size=weights[0].stat().st_size,
            cached=True,
            uses=("generate",),
        ),
        preprocessing={"vocabulary": vocabularies[0].name},
        library="lstm",
    )


def _weights(folder: Path) -> list[Path]:
    return sorted({*folder.glob("*_weights*.pth"), *folder.glob("*_weights*.safetensors")})
