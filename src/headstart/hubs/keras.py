"""Keras's applications and files, with Keras 3 on PyTorch: TensorFlow is not needed."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import final

from headstart.core.backbone import Backbone, Held, Hub, Network
from headstart.core.errors import HubError, listed, nearest
from headstart.core.files import atomic_file, cache_folder
from headstart.core.offline import need_network
from headstart.core.progress import Progress
from headstart.core.registry import require
from headstart.hubs import _names, _vision
from headstart.hubs._keras import APPLICATIONS, KNOWN, UNFIT, Application, open_keras, prepared

LICENCE = "Apache-2.0"
SUFFIXES = (".keras", ".h5", ".hdf5")


@final
class Keras(Hub):
    """`keras:ResNet50`, a class of `keras.applications`, or `keras:PATH`, a .keras or .h5 file.

    Weights: the file of `--weights`; else ImageNet's, from Keras's own cache or fetched into it by Keras itself. The
    revision `random` takes none.
    """

    def search(self, query: str) -> list[Backbone]:
        """Return the applications whose name contains `query`.

        Raises:
            MissingExtra: Keras is not installed; importing it takes seconds, so that is only done to say so.
        """
        if importlib.util.find_spec("keras") is None:
            require("keras", "keras")
        return [
            replace(_described(name), cached=_kept(each).is_file())
            for name, each in APPLICATIONS.items()
            if query.casefold() in name.casefold() and name not in UNFIT
        ]

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the application with its weights, or the network in a file.

        Raises:
            HubError: there is no such application or file, or its weights cannot be had or are damaged.
        """
        path = Path(backbone.name).expanduser()
        if path.suffix.lower() in SUFFIXES:
            if not path.is_file():
                raise HubError(f"There is no file '{path}'.")
            return open_keras(path.resolve(), backbone)
        names = {name.casefold(): name for name in APPLICATIONS}
        if backbone.name.casefold() not in names:
            raise HubError(
                f"Keras has no application '{backbone.name}'.",
                allowed=f"Its applications: {listed(APPLICATIONS)}.",
                hint=nearest(backbone.name, APPLICATIONS) or "Or give a .keras or .h5 file: keras:PATH",
            )
        name = names[backbone.name.casefold()]
        if backbone.revision != _vision.RANDOM:
            _vision.no_revision(backbone, "Keras publishes one set of weights for each application.")
        if name in UNFIT:
            raise HubError(f"Keras cannot build '{name}' on PyTorch.", hint="Take timm's or torchvision's MobileNets.")
        application = APPLICATIONS[name]
        weights = _vision.given(backbone)
        labels = _names.known(1000)
        if weights is not None:
            labels = _vision.class_names(weights, labels)
        elif backbone.revision == _vision.RANDOM:
            weights = _random(name)
        else:
            weights = _fetched(name, application, progress)
        return Network(
            folder=weights.parent,
            architecture=name,
            config={"classes": len(labels) or 1000},
            weights=weights,
            backbone=replace(
                _described(name),
                revision=backbone.revision,
                checksum=_vision.verified(backbone, weights),
                size=weights.stat().st_size,
                cached=True,
                weights=str(weights) if backbone.weights else "",
                accuracy=0.0 if backbone.weights or backbone.revision == _vision.RANDOM else KNOWN[name][1],
            ),
            preprocessing=prepared((application.side, application.side), application.mode),
            library="keras",
            labels=labels,
        )

    def held(self) -> list[Held]:
        """Return the applications whose weights are in Keras's cache."""
        return [
            Held(replace(_described(name), cached=True), _kept(each), _kept(each).stat().st_size)
            for name, each in APPLICATIONS.items()
            if _kept(each).is_file()
        ]

    def remove(self, backbone: Backbone) -> int:
        """Remove an application's weights from Keras's cache."""
        for each in self.held():
            if each.backbone.name.casefold() == backbone.name.casefold():
                each.place.unlink()
                return each.size
        return super().remove(backbone)


def _described(name: str) -> Backbone:
    return Backbone(
        hub="keras",
        name=name,
        modality="image",
        licence=LICENCE,
        width=APPLICATIONS[name].width,
        parameters=KNOWN[name][0],
        size=4 * KNOWN[name][0],
        accuracy=KNOWN[name][1],
        uses=("classify", "embed"),
    )


def _kept(application: Application) -> Path:
    return _vision.keras_home() / "models" / application.file


def _made(name: str, weights: str | None) -> object:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return getattr(require("keras.applications", "keras"), name)(weights=weights)


def _fetched(name: str, application: Application, progress: Progress) -> Path:
    file = _kept(application)
    if not file.is_file():
        need_network(f"The weights of Keras's {name}")
        require("keras", "keras")
        progress.say(f"Keras fetches {file.name}")
        try:
            _made(name, "imagenet")
        except Exception as error:  # Keras raises bare Exceptions around urllib's errors, with the address in them.
            raise HubError(
                f"Keras could not fetch the weights of '{name}'.",
                hint=f"Put {file.name} into '{file.parent}', or give a file with --weights.",
            ) from error
        if not file.is_file():
            raise HubError(f"Keras did not put '{file.name}' into '{file.parent}'.", hint="Set KERAS_HOME.")
    return file


def _random(name: str) -> Path:
    """Return a file of random weights, always the same ones, made where it is not there yet."""
    file = cache_folder() / "models" / "keras-random" / f"{name}.weights.h5"
    if not file.is_file():
        os.environ.setdefault("KERAS_BACKEND", "torch")
        require("keras", "keras").utils.set_random_seed(0)
        network = _made(name, None)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as part:
            # Keras looks at the suffix.
            named = part.with_name(f"{part.name}.weights.h5")
            network.save_weights(named)  # type: ignore[attr-defined]
            named.replace(part)
    return file
