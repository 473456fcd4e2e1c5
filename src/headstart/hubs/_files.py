"""Open what a hub gave by what files are there: a model folder, else one ONNX, SavedModel, TFLite or Keras model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError, listed
from headstart.hubs._folder import open_folder
from headstart.hubs._generators import open_generator
from headstart.hubs._graphs import open_graph
from headstart.hubs._keras import open_keras

KINDS = {
    "onnx": ("*.onnx",),
    "tensorflow": ("saved_model.pb",),
    "keras": ("*.keras", "*.h5"),
    "tflite": ("*.tflite",),
}
"""The libraries whose one file says all, and how that file is called."""
STATES = ("*.safetensors", "*.pth", "*.pt", "*.bin", "*.ckpt", "*.th")
"""Files that hold weights alone; what they belong to must be said."""

BUNDLE = "bundle.json"


def open_files(folder: Path, backbone: Backbone, preprocessing: Mapping[str, Any] | None = None) -> Network:
    """Return the network that a folder holds, whatever its format.

    Args:
        folder: where its files are.
        backbone: the reference that led here; its `uses` stay where they are set.
        preprocessing: what the hub knows of how inputs are prepared.

    Raises:
        HubError: nothing there can be opened, or several models are there.
    """
    if (folder / "config.json").is_file() or (folder / "model_index.json").is_file():
        return open_folder(folder, backbone)
    for library, patterns in KINDS.items():
        found = sorted(each for pattern in patterns for each in folder.rglob(pattern) if each.is_file())
        if found:
            model = _one(found, folder)
            if (own := open_generator(model, backbone)) is not None:
                return own
            if library == "keras":
                return open_keras(model, backbone)
            return open_graph(model.parent if library == "tensorflow" else model, backbone, library, preprocessing)
    if (folder / BUNDLE).is_file():
        raise HubError(
            f"'{backbone.reference}' is a model that headstart fitted, not a pretrained one.",
            hint=f"It is here now; use it by its folder: headstart predict '{folder}' …",
        )
    states = sorted(each for pattern in STATES for each in folder.rglob(pattern))
    if len(states) == 1 and (own := open_generator(states[0], backbone)) is not None:
        return own
    if states:
        raise HubError(
            f"'{backbone.reference}' holds weights alone ({listed(each.name for each in states)}).",
            allowed="Weights need the name of the architecture that they belong to.",
            hint=f"Name it, for example: --backbone torchvision:resnet50 --weights '{states[0]}'",
        )
    names = sorted(each.name for each in folder.rglob("*") if each.is_file())
    raise HubError(
        f"'{backbone.reference}' holds nothing that can be opened: {listed(names)}.",
        allowed="Models are safetensors with config.json, ONNX, TensorFlow SavedModel, TFLite or Keras.",
    )


def _one(found: Sequence[Path], folder: Path) -> Path:
    usual = [each for each in found if each.stem in ("model", "saved_model") and each.parent == folder]
    if len(found) > 1 and len(usual) != 1:
        raise HubError(
            f"'{folder}' holds {len(found)} models: {listed(str(each.relative_to(folder)) for each in found)}.",
            hint="Open the one that is meant with local:PATH.",
        )
    return usual[0] if usual else found[0]
