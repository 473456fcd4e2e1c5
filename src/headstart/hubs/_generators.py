"""Files that draw pictures or hear voices: the checkpoints of GANs, and Silero's voice detector.

What a checkpoint holds is told from the names in it. They are read from its pickle's text without running it.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from headstart.core.backbone import Backbone, Network
from headstart.core.files import sha256
from headstart.hubs._signatures import of_onnx

CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".th", ".safetensors")
STYLEGAN2 = {"style.1.weight", "input.input", "conv1.conv.modulation.weight", "to_rgb1.conv.weight"}
CHAIN = re.compile(r"((?:[A-Za-z_]\w*\.)*)\d+\.(weight|bias|running_mean|running_var|num_batches_tracked)")
TENSOR = re.compile(r"[\w.]+\.(weight|bias|running_mean|running_var|num_batches_tracked|kernel|input)")
SILERO = ({"input", "state", "sr"}, {"output", "stateN"})
"""What Silero's detector reads and gives."""
MOST = 64 << 20
"""Bytes of a pickle that are looked through."""


def open_generator(path: Path, backbone: Backbone) -> Network | None:
    """Return the network in a file that draws pictures or hears voices; None where it is another kind of file.

    Raises:
        HubError: it is called .onnx and is no such file.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _network(path, backbone, "silero", "audio", "speech") if _is_silero(path) else None
    if suffix not in CHECKPOINTS:
        return None
    names = tensor_names(path)
    if names >= STYLEGAN2:
        return _network(path, backbone, "stylegan2", "noise", "imagine")
    chains = {match[1] if (match := CHAIN.fullmatch(name)) else name for name in names}
    if len(chains) == 1 and all(CHAIN.fullmatch(name) for name in names):
        return _network(path, backbone, "generator", "noise", "imagine")
    return None


def tensor_names(path: Path) -> set[str]:
    """Return the names of a checkpoint's tensors, those of all its networks; none where it is no checkpoint."""
    try:
        if path.suffix.lower() == ".safetensors":
            with path.open("rb") as file:
                header = file.read(min(int.from_bytes(file.read(8), "little"), MOST))
            return set(json.loads(header)) - {"__metadata__"}
        return {text for text in _texts(path) if TENSOR.fullmatch(text)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return set()


def _texts(path: Path) -> Iterator[str]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inner = next((each for each in archive.infolist() if each.filename.endswith("data.pkl")), None)
            if inner is None or inner.file_size > MOST:
                return
            streams, file = 1, io.BytesIO(archive.read(inner))
    else:
        # Before 1.6, torch.save wrote four pickles, the last with the names, and then the numbers.
        with path.open("rb") as opened:
            streams, file = 4, io.BytesIO(opened.read(MOST))
    for _ in range(streams):
        for opcode, argument, _ in pickletools.genops(file):
            if "UNICODE" in opcode.name and isinstance(argument, str):
                yield argument


def _is_silero(path: Path) -> bool:
    found = of_onnx(path)
    return ({each.name for each in found.inputs}, {each.name for each in found.outputs}) == SILERO


def _network(path: Path, backbone: Backbone, library: str, modality: str, use: str) -> Network:
    size = path.stat().st_size
    found = replace(backbone, checksum=sha256(path), modality=modality, size=size, cached=True, uses=(use,))
    preprocessing = {"sampling_rate": 16_000} if modality == "audio" else {}
    return Network(path.parent, library, {}, path, found, preprocessing=preprocessing, library=library, use=use)
