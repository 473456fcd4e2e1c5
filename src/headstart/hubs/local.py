"""Models on this machine: folders, and files that hold a whole model."""

from __future__ import annotations

from pathlib import Path
from typing import final

from headstart.core.backbone import Backbone, Hub, Network
from headstart.core.errors import HubError
from headstart.core.progress import Progress
from headstart.hubs import _ctc, _lstm
from headstart.hubs._files import open_files
from headstart.hubs._folder import open_folder
from headstart.hubs._generators import open_generator
from headstart.hubs._graphs import open_graph
from headstart.hubs._keras import open_keras

GRAPHS = {".onnx": "onnx", ".tflite": "tflite"}
KERAS = (".keras", ".h5", ".hdf5")
STATES = (".pth", ".pt", ".th", ".ckpt", ".bin", ".safetensors", ".tar", ".pkl")


@final
class Local(Hub):
    """`local:PATH`: a folder of transformers, sentence-transformers, timm or TensorFlow; a .onnx, .tflite, .keras file.

    Class names are read from `labels.txt` beside a file, and the preprocessing of a graph from `preprocessing.json`.
    """

    def search(self, query: str) -> list[Backbone]:
        """Return nothing: folders are named, not searched."""
        return []

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the network in the folder or file.

        Raises:
            HubError: it is not there, cannot be read, or its weights are not the pinned ones.
        """
        path = Path(backbone.name).expanduser()
        if path.is_dir():
            network = _of_folder(path.resolve(), backbone)
        elif path.is_file():
            network = _of_file(path.resolve(), backbone)
        else:
            raise HubError(f"There is no file or folder '{path}'.", hint="Give the folder that holds config.json.")
        if backbone.checksum and network.backbone.checksum != backbone.checksum:
            raise HubError(
                f"The weights in '{path}' are not those that the bundle was fitted with: their SHA-256 differs.",
                hint="Put the earlier files back, or fit again.",
            )
        return network


def _of_folder(folder: Path, backbone: Backbone) -> Network:
    if _lstm.claims(folder):
        return _lstm.open_lstm(folder, backbone)
    if _ctc.claims(folder):
        return _ctc.open_ctc(folder, backbone)
    whole = (folder / "config.json").is_file() or (folder / "model_index.json").is_file()
    if not whole and any(each.is_file() for each in folder.iterdir()):
        return open_files(folder, backbone)
    return open_folder(folder, backbone)


def _of_file(file: Path, backbone: Backbone) -> Network:
    suffix = file.suffix.lower()
    if (found := open_generator(file, backbone)) is not None:
        return found
    if suffix in GRAPHS:
        return open_graph(file, backbone, GRAPHS[suffix])
    if suffix in KERAS:
        return open_keras(file, backbone)
    if suffix == ".pb":
        return open_graph(file.parent, backbone, "tensorflow")
    if suffix in STATES:
        raise HubError(
            f"'{file.name}' holds weights alone, not what they belong to.",
            allowed="A file that holds a whole model: .onnx, .tflite, .keras, .h5; or a model folder.",
            hint=f"Name the architecture, for example: torchvision:resnet50 --weights '{file}'",
        )
    raise HubError(
        f"'{file.name}' is no kind of model file that is known.",
        allowed="Files: .onnx, .tflite, .keras, .h5; or a model folder.",
    )
