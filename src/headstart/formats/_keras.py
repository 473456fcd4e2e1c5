"""Build Keras's networks, on PyTorch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any, final

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.core.trust import trusted

HEADS = ("Dense", "Conv2D", "Activation", "Softmax", "Reshape", "Flatten", "Dropout")
"""The layers behind a network's vector: what follows the last pooling, or the last Dense alone."""


def unsupported(network: Network) -> str:
    """Return an empty string, or why Keras cannot run here."""
    found = keras.backend.backend()
    return "" if found == "torch" else f"Keras runs on {found} here; set KERAS_BACKEND=torch"


def build(network: Network) -> Any:
    """Return the network with its weights, ready for `network.use`.

    Raises:
        HubError: the file cannot be opened, or the weights do not fit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _of_file(network) if network.architecture == "file" else _application(network)
    except Exception as error:  # Keras raises ValueError, TypeError, OSError, KeyError …, by the layer.
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HubError(
            f"Keras cannot open '{network.weights.name}' as '{network.architecture}': {first[:300]}",
            hint="Name the architecture that the file was saved from.",
        ) from error
    return Keras(model, network.use)


def _of_file(network: Network) -> Any:
    return keras.models.load_model(network.weights, compile=False, safe_mode=not trusted())


def _application(network: Network) -> Any:
    make = getattr(keras.applications, network.architecture)
    model = make(weights=None, classes=int(network.config.get("classes", 1000)))
    model.load_weights(network.weights)
    return model


@final
class Keras:
    """A Keras network on PyTorch: `pixels` (n, height, width, 3) in; `probabilities`, `logits` or `embedding` out."""

    def __init__(self, model: Any, use: str) -> None:
        self.use = use
        self.certain = False
        self.module = model
        if use == "embed":
            self.module = keras.Model(model.inputs, _before_head(model))
        else:
            last = model.layers[-1]
            activation = getattr(getattr(last, "activation", None), "__name__", type(last).__name__.casefold())
            self.certain = activation == "softmax"

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return probabilities where the network ends in a softmax, else logits; or vectors."""
        out = self.module(given["pixels"], training=False)
        if self.use == "embed":
            return {"embedding": out.mean((1, 2)) if out.ndim == 4 else out.flatten(1)}
        return {"probabilities" if self.certain else "logits": out.flatten(1)}


def _before_head(model: Any) -> Any:
    """Return the tensor that the last layer with weights reads, which is the network's vector."""
    for layer in reversed(model.layers):
        if type(layer).__name__ not in HEADS:
            return layer.output
        if layer.weights:
            return layer.input
    raise HubError("The network has no layer of its own that gives vectors.")
