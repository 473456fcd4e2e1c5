"""Low-rank adapters in peft's layout, merged into the weights they were learnt for, without PyTorch.

Source: Hu and others 2021, LoRA (arXiv:2106.09685): W = W_base + alpha / rank · B A.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from headstart.core.errors import HubError
from headstart.core.files import read_json

SETTINGS, TENSORS = "adapter_config.json", "adapter_model.safetensors"
"""The two files of an adapter's folder."""
PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
PLAIN = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "use_rslora": (False,),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": (None, []),
}
"""Settings of an adapter that can be merged here, and what each may be where it is there."""
NUMBERS: Mapping[str, Any] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
}


def merge(weights: Path, adapter: Path, out: Path) -> None:
    """Write a safetensors file with an adapter merged into it; all else in it stays as it is, byte for byte.

    Products are summed up in 64 bits, so that every machine writes the same file.

    Args:
        weights: the safetensors file that the adapter was learnt for.
        adapter: the folder with `adapter_config.json` and `adapter_model.safetensors`.
        out: the file to write.

    Raises:
        HubError: the adapter is of another kind, or does not belong to these weights.
    """
    found, flipped = _changes(adapter)
    shutil.copyfile(weights, out)
    with out.open("r+b") as file:
        header, start = _header(file, weights)
        for name, added in found.items():
            known = find(f"{name}.weight", header)
            if not known:
                raise HubError(f"The adapter in '{adapter}' changes '{name}', which '{weights.name}' does not have.")
            told = header[known]
            change = added.T if flipped and added.ndim == 2 else added
            if told["dtype"] not in NUMBERS or tuple(told["shape"]) != change.shape:
                raise HubError(
                    f"The adapter in '{adapter}' does not fit '{weights.name}': '{name}' is {list(change.shape)} there "
                    f"and {told['dtype']} {told['shape']} here."
                )
            place = start + told["data_offsets"][0]
            file.seek(place)
            before = file.read(told["data_offsets"][1] - told["data_offsets"][0])
            file.seek(place)
            file.write(_added(before, change, told["dtype"]))
        file.flush()
        os.fsync(file.fileno())


def _changes(adapter: Path) -> tuple[dict[str, np.ndarray], bool]:
    """Return what is added to each weight, by its layer's name, in 64 bits; and whether inputs come first in a layer.

    Raises:
        HubError: it is no adapter, or one of another kind.
    """
    found, scale, flipped = halves(adapter)
    return {name: scale * _product(up, down) for name, (down, up) in found.items()}, flipped


def halves(adapter: Path) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], float, bool]:
    """Return A (rank, in) and B (out, rank) of each layer by name, alpha / rank, and whether inputs come first in it.

    Raises:
        HubError: it is no adapter, or one of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    told = read_json(adapter / SETTINGS, HubError)
    wrong = [name for name, allowed in PLAIN.items() if name in told and told[name] not in allowed]
    if wrong:
        raise HubError(
            f"The adapter in '{adapter}' has {wrong[0]} = {told[wrong[0]]!r}; it cannot be merged without peft.",
            allowed="Plain low-rank adapters (LoRA) of linear layers and convolutions.",
        )
    try:
        tensors = load_file(adapter / TENSORS)
        rank, alpha = int(told["r"]), float(told["lora_alpha"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise HubError(f"The adapter in '{adapter}' cannot be read: {error}.") from error
    found = {}
    for name, down in tensors.items():
        if name.endswith(DOWN):
            up = tensors.get(name.removesuffix(DOWN) + UP)
            if up is None:
                raise HubError(f"The adapter in '{adapter}' has '{name}' without its other half.")
            found[name.removeprefix(PREFIX).removesuffix(DOWN)] = down, up
    return found, alpha / rank, bool(told.get("fan_in_fan_out"))


def _product(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return B A: (out, in), or (out, in, height, width) of a convolution whose B is 1 × 1."""
    wide = up.reshape(up.shape[0], -1).astype(np.float64) @ down.reshape(down.shape[0], -1).astype(np.float64)
    return wide.reshape(up.shape[0], *down.shape[1:])


def _header(file: BinaryIO, weights: Path) -> tuple[dict[str, Any], int]:
    """Return what a safetensors file says of its tensors, and where its numbers begin."""
    try:
        length = int.from_bytes(file.read(8), "little")
        told = json.loads(file.read(length))
    except (ValueError, MemoryError, OverflowError) as error:
        raise HubError(f"'{weights}' cannot be read as safetensors: {error}.", hint="Fetch it again.") from error
    return {name: each for name, each in told.items() if name != "__metadata__"}, 8 + length


def find(name: str, known: Iterable[str]) -> str:
    """Return what a file calls a tensor, whatever prefix the network or the file has; empty where it is unclear.

    >>> find("encoder.dense.weight", ["bert.encoder.dense.weight", "pooler.dense.weight"])
    'bert.encoder.dense.weight'
    """
    known = list(known)
    if name in known:
        return name
    longer = [each for each in known if each.endswith(f".{name}")]
    shorter = [each for each in known if name.endswith(f".{each}")]
    fitting = longer or sorted(shorter, key=len)[-1:]
    return fitting[0] if len(fitting) == 1 else ""


def shapes_of(weights: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a safetensors file.

    Raises:
        HubError: it is no such file.
    """
    with weights.open("rb") as file:
        return {name: tuple(each["shape"]) for name, each in _header(file, weights)[0].items()}


def _added(before: bytes, change: np.ndarray, kind: str) -> bytes:
    """Return a tensor's bytes with a change added to its numbers, rounded once."""
    plain = np.frombuffer(before, NUMBERS[kind])
    wide = (plain.astype("<u4") << 16).view("<f4") if kind == "BF16" else plain
    total = wide.astype(np.float64).reshape(change.shape) + change
    if kind != "BF16":
        return total.astype(NUMBERS[kind]).tobytes()
    bits = np.ascontiguousarray(total, "<f4").view("<u4").astype(np.uint64)
    # To the nearest, and of two as near to the even one.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def size_of(adapter: Path) -> int:
    """Return the bytes of an adapter's files."""
    return sum((adapter / name).stat().st_size for name in (SETTINGS, TENSORS))
