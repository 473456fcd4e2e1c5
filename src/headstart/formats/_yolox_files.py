"""YOLOX's weights: out of an exported ONNX graph, or out of the safetensors file of a tuned one, without torch.

An exporter drops the names of weights that it folds batch norms into, but writes convolutions in the order in which
they run. So they are taken in that order, and each must have the shape that the layout says. The layout of the file is
that of the public schema onnx.proto (Protocol Buffers).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from headstart.core.errors import HubError, listed
from headstart.formats._yolox_layout import SIZES, Convolution, Size, convolutions

KINDS = {1: np.float32, 10: np.float16, 11: np.float64}
"""onnx.proto's numbers of the types that weights have."""


def read(path: Path) -> tuple[Size, int, dict[str, np.ndarray]]:
    """Return a YOLOX's size, how many classes it tells apart, and its tensors by our names, float32.

    Raises:
        HubError: it is no YOLOX, or is damaged.
    """
    if path.suffix == ".onnx":
        return _fitting(path, _of_onnx(path))
    try:
        found = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise HubError(f"'{path}' cannot be read as safetensors: {error}.", hint="Fetch it again.") from error
    names = list(dict.fromkeys(name.rpartition(".")[0] for name in found))
    return _fitting(path, [(found.get(f"{name}.weight"), found.get(f"{name}.bias")) for name in names], names)


def unsupported(path: Path) -> str:
    """Return an empty string, or why a file is no YOLOX that can be read here."""
    try:
        read(path)
    except HubError as error:
        return error.problem.rstrip(".")
    return ""


def _fitting(
    path: Path, layers: list[tuple[Any, Any]], names: list[str] | None = None
) -> tuple[Size, int, dict[str, np.ndarray]]:
    """Return the tensors by name, where they are those of one of the sizes."""
    stem = next((each for name, each in zip(names or ["backbone.stem"], layers, strict=False)
                 if name == "backbone.stem"), (None, None))[0]  # fmt: skip
    for name, size in SIZES.items():
        first = convolutions(size, 1)[0].shape
        if stem is None or stem.shape != first:
            continue
        planned = convolutions(size, 1)
        place = next(at for at, each in enumerate(planned) if each.name == "head.level0.classes")
        if names is not None:
            by_name = dict(zip(names, layers, strict=True))
            layers = [by_name.get(each.name, (None, None)) for each in planned]
        if len(layers) != len(planned) or layers[place][0] is None:
            raise _other(path, f"{len(layers)} convolutions, and {name} has {len(planned)}")
        classes = int(layers[place][0].shape[0])
        return size, classes, _named(path, convolutions(size, classes), layers)
    shown = "none" if stem is None else str(list(stem.shape))
    raise _other(path, f"a first convolution of shape {shown}")


def _named(path: Path, planned: list[Convolution], layers: list[tuple[Any, Any]]) -> dict[str, np.ndarray]:
    made = {}
    for each, (weight, bias) in zip(planned, layers, strict=True):
        if weight is None or bias is None or weight.shape != each.shape or bias.shape != each.shape[:1]:
            shown = "no weights" if weight is None or bias is None else f"weights of shape {list(weight.shape)}"
            raise _other(path, f"{shown} for '{each.name}', which has {list(each.shape)}")
        made[f"{each.name}.weight"] = np.ascontiguousarray(weight, np.float32)
        made[f"{each.name}.bias"] = np.ascontiguousarray(bias, np.float32)
    return made


def _other(path: Path, what: str) -> HubError:
    return HubError(
        f"'{path.name}' is no YOLOX whose weights can be read: it has {what}.",
        allowed=f"Exported graphs of {listed(SIZES)} with their batch norms folded.",
        hint="Export it in inference mode: torch.onnx.export(model.eval(), …).",
    )


def _of_onnx(path: Path) -> list[tuple[Any, Any]]:
    """Return weights and biases of an ONNX graph's convolutions, in order; None where they are no constants.

    Raises:
        HubError: it is no ONNX file, or is cut short.
    """
    try:
        data = memoryview(path.read_bytes())
        graph = next(part for field, part in _fields(data) if field == 7)
        tensors: dict[str, np.ndarray | None] = {}
        nodes: list[tuple[str, list[str], list[str]]] = []
        for field, part in _fields(graph):
            if field == 5:
                name, value = _tensor(part)
                tensors[name] = value
            elif field == 1:
                nodes.append(_node(part, tensors))
    except (ValueError, IndexError, StopIteration, OSError, UnicodeDecodeError) as error:
        raise HubError(f"'{path}' is no ONNX file, or is cut short.", hint="Fetch it again.") from error
    for kind, inputs, outputs in nodes:
        if kind == "Identity" and inputs[0] in tensors:
            tensors[outputs[0]] = tensors[inputs[0]]
    found = [inputs for kind, inputs, _ in nodes if kind == "Conv"]
    return [(tensors.get(each[1]), tensors.get(each[2]) if len(each) > 2 else None) for each in found]


def _node(part: memoryview, tensors: dict[str, np.ndarray | None]) -> tuple[str, list[str], list[str]]:
    """Return a node's kind, inputs and outputs; a constant's value is noted among the tensors."""
    fields = [(field, each) for field, each in _fields(part) if isinstance(each, memoryview)]
    kind = next((str(each, "utf-8") for field, each in fields if field == 4), "")
    inputs, outputs = ([str(each, "utf-8") for field, each in fields if field == want] for want in (1, 2))
    if kind == "Constant":
        values = [value for field, each in fields if field == 5 for name, value in _fields(each) if name == 5]
        if values:
            tensors[outputs[0]] = _tensor(values[0])[1]
    return kind, inputs, outputs


def _tensor(part: memoryview) -> tuple[str, np.ndarray | None]:
    """Return a tensor's name and its numbers; None where they are of another type, or in another file."""
    name, kind, shape, raw, plain = "", 0, [], memoryview(b""), memoryview(b"")
    for field, each in _fields(part):
        if field == 1:
            shape += [each] if isinstance(each, int) else list(_varints(each))
        elif field == 2:
            kind = int(each)
        elif field == 4 and isinstance(each, memoryview):
            plain = each
        elif field == 8:
            name = str(each, "utf-8")
        elif field == 9:
            raw = each
    if kind not in KINDS:
        return name, None
    flat = np.frombuffer(raw, KINDS[kind]) if len(raw) else np.frombuffer(plain, np.float32)
    return name, flat.reshape(shape).astype(np.float32) if flat.size == np.prod(shape, dtype=int) else None


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a Protocol Buffers message: number, and its bytes (a view) or its number."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
        elif kind == 2:
            length, at = _varint(data, at)
            if length > len(data) - at:
                raise ValueError("cut short")
            yield key >> 3, data[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not a message")


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("too long a number")
