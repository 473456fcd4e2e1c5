"""Pretrained models: the Backbone reference, the Network on disk, and the Hub contract."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.core.errors import HubError, UsageError
from headstart.core.progress import Progress

REFERENCE = re.compile(r"(?P<hub>[a-z][a-z0-9_]*):(?P<name>[^@]+)(?:@(?P<revision>.+))?", re.DOTALL)


@dataclass(frozen=True)
class Backbone:
    """A reference to a pretrained model, pinned by checksum once it has been resolved.

    Args:
        hub: the hub's name, which is its file's name in `hubs/`.
        name: the model's name on that hub, or a path for `local`.
        revision: the hub's own version name; empty means the hub's default.
        checksum: SHA-256 of the weights file, 64 hexadecimal digits; empty until resolved.
        modality: what it reads, such as `text`.
        licence: SPDX name, or empty where it is not known.
        width: numbers in one embedding; 0 where it is not known.
        parameters: how many weights it has; 0 where it is not known.
        size: bytes of its weights file; 0 where it is not known.
        cached: whether it can be opened without a network.
        accuracy: published accuracy in per cent, such as ImageNet top-1; 0 where it is not known.
        uses: what it can do as it is: names of `pipelines/`, the usual one first.
        weights: a local file whose weights are put into the named architecture instead of the hub's own.
    """

    hub: str
    name: str
    revision: str = ""
    checksum: str = ""
    modality: str = "text"
    licence: str = ""
    width: int = 0
    parameters: int = 0
    size: int = 0
    cached: bool = False
    accuracy: float = 0.0
    uses: Sequence[str] = ()
    weights: str = ""

    @property
    def reference(self) -> str:
        """The text form `hub:name@revision`."""
        return f"{self.hub}:{self.name}" + (f"@{self.revision}" if self.revision else "")

    @staticmethod
    def parse(reference: str) -> Backbone:
        """Return the backbone that `hub:name@revision` names, unresolved.

        Raises:
            UsageError: the text has no `hub:` in front.
        """
        match = REFERENCE.fullmatch(reference)
        if not match:
            raise UsageError(
                f"'{reference}' does not say which hub the model comes from.",
                allowed="A reference looks like hub:name or hub:name@revision.",
                hint="For example: --backbone builtin:all-MiniLM-L6-v2, or --backbone local:path/to/folder.",
            )
        return Backbone(match["hub"], match["name"], match["revision"] or "")


CHANNELS = {"grey": 1, "rgb": 3, "bgr": 3, "rgbx": 4}
"""How many channels an image network reads, by the `channels` of its preprocessing (`modalities/_pixels.py`)."""


@dataclass(frozen=True)
class Network:
    """A pretrained network on disk, with the preprocessing it was trained with.

    Args:
        folder: where its files are.
        architecture: what builds it, such as `bert`, `resnet50` or `FasterRCNN`.
        config: the model's own configuration.
        preprocessing: what the modality needs. Text: `tokenizer` (a file in the folder), `max_length` (tokens).
            Image: see `modalities/_pixels.py`. Audio: see `modalities/_samples.py`.
        pooling: how token vectors become one vector: `mean`, `cls` or `max`; and `normalize`.
        weights: the weights file.
        backbone: the resolved reference.
        library: whose layout and code it is: a file `formats/_<library>.py`, or `onnx`, `tensorflow`, `tflite`.
        use: what it is opened for, a name of `pipelines/`; decides which outputs a session gives.
        labels: the class names of its own head, by class number; empty where it has none.
    """

    folder: Path
    architecture: str
    config: Mapping[str, Any]
    weights: Path
    backbone: Backbone
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    pooling: Mapping[str, Any] = field(default_factory=dict)
    library: str = "transformers"
    use: str = "embed"
    labels: Sequence[str] = ()

    @property
    def writes(self) -> bool:
        """Whether it writes token by token, which takes as long as reading its weights does."""
        return self.use == "generate" or (self.use == "transcribe" and "decoder_layers" in self.config)


@dataclass(frozen=True)
class Held:
    """A model that a hub keeps on this machine: its reference, where, and how many bytes it takes."""

    backbone: Backbone
    place: Path
    size: int


class Hub(ABC):
    """One place that pretrained models come from (one file in `hubs/`)."""

    @abstractmethod
    def search(self, query: str) -> list[Backbone]:
        """Return the models whose name contains `query`; an empty query returns what the hub offers first.

        Offline, only what is on this machine is returned, and no socket is opened.
        """

    @abstractmethod
    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the network on disk, downloading it if it is not there, verified against its checksum.

        Raises:
            HubError: it does not exist, cannot be reached, or fails its checksum.
        """

    def find(self, query: str, modality: str = "", limit: int = 0) -> list[Backbone]:
        """Return what `search` does; a hub with too many models narrows it to a modality and a number itself."""
        return self.search(query)

    def held(self) -> list[Held]:
        """Return the models that this hub keeps on this machine."""
        return []

    def push(self, backbone: Backbone, folder: Path, files: Sequence[str], private: bool) -> str:
        """Put some files of a folder onto the hub under the backbone's name and branch, and return their page.

        Raises:
            HubError: the hub takes no models, or not from this user.
        """
        raise HubError(f"'{backbone.hub}' takes no models.", hint="Push to hf:owner/name, or to a folder.")

    def remove(self, backbone: Backbone) -> int:
        """Remove a model from this machine and return the bytes freed.

        Raises:
            HubError: it is not on this machine, or the hub does not keep it.
        """
        raise HubError(f"'{backbone.reference}' is not kept by headstart.", hint="Remove its files by hand.")
