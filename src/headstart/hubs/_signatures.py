"""What a saved graph reads and gives, from the head of its file alone: ONNX, TensorFlow's SavedModel, TFLite.

No library is needed, and nothing of the graph is run or built. The layouts are those of the public schemas onnx.proto,
saved_model.proto (both Protocol Buffers) and tflite's schema.fbs (FlatBuffers).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headstart.core.errors import HubError

LONGEST_TEXT = 1 << 24
ONNX_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 8: "string", 9: "bool", 10: "float16"}
TENSORFLOW_TYPES = {1: "float32", 3: "int32", 4: "uint8", 6: "int8", 7: "string", 9: "int64", 10: "bool", 19: "float16"}
TFLITE_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 9: "int8"}


@dataclass(frozen=True)
class Port:
    """One input or output of a graph; a length of 0 is not fixed."""

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """What a graph reads and gives."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def of_onnx(path: Path) -> Signature:
    """Return the signature of an ONNX file.

    Raises:
        HubError: it is no ONNX file, or is cut short.
    """
    inputs: list[Port] = []
    outputs: list[Port] = []
    constants: set[str] = set()
    try:
        with path.open("rb") as file:
            for model, span in _fields(file, 0, path.stat().st_size):
                if model != 7:
                    continue
                for field, part in _fields(file, *span):
                    if field in (11, 12):
                        (inputs if field == 11 else outputs).append(_onnx_port(file, part))
                    elif field == 5:
                        constants |= {_text(file, each) for name, each in _fields(file, *part) if name == 8}
    except (ValueError, struct.error, OSError, UnicodeDecodeError) as error:
        raise _broken(path, "ONNX") from error
    if not outputs:
        raise _broken(path, "ONNX")
    # Old files list their weights among the inputs.
    return Signature(tuple(each for each in inputs if each.name not in constants), tuple(outputs))


def of_saved_model(folder: Path) -> Signature:
    """Return the serving signature of a SavedModel folder.

    Raises:
        HubError: it has no saved_model.pb with a signature, or that is cut short.
    """
    path = folder / "saved_model.pb"
    found: dict[str, Signature] = {}
    try:
        with path.open("rb") as file:
            for model, span in _fields(file, 0, path.stat().st_size):
                for meta, part in _fields(file, *span) if model == 2 else ():
                    if meta == 5:
                        entry = dict(_fields(file, *part))
                        found[_text(file, entry[1])] = _tensorflow_signature(file, entry[2])
    except (ValueError, KeyError, struct.error, OSError, UnicodeDecodeError) as error:
        raise _broken(path, "SavedModel") from error
    for name in ("serving_default", "default", *sorted(found)):
        if name in found and found[name].inputs:
            return found[name]
    raise HubError(f"'{folder}' is a SavedModel without a signature.", hint="Save it with a serving signature.")


def of_tflite(path: Path) -> Signature:
    """Return the signature of a TFLite file.

    Raises:
        HubError: it is no TFLite file, or is cut short.
    """
    data = path.read_bytes()
    try:
        if data[4:8] != b"TFL3":
            raise ValueError("not TFL3")
        model = struct.unpack_from("<I", data, 0)[0]
        graphs = _vector(data, model, 2)
        graph = graphs[0] + struct.unpack_from("<I", data, graphs[0])[0]
        tensors = [at + struct.unpack_from("<I", data, at)[0] for at in _vector(data, graph, 0)]

        def ports(field: int) -> tuple[Port, ...]:
            numbers = [struct.unpack_from("<i", data, at)[0] for at in _vector(data, graph, field)]
            return tuple(_tflite_port(data, tensors[number]) for number in numbers)

        return Signature(ports(1), ports(2))
    except (ValueError, struct.error, IndexError, UnicodeDecodeError) as error:
        raise _broken(path, "TFLite") from error


def _broken(path: Path, kind: str) -> HubError:
    return HubError(f"'{path}' is no {kind} file, or is cut short.", hint="Fetch it again.")


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the fields of a Protocol Buffers message: number, and where it stands (or value, twice) without reading."""
    at = start
    while at < end:
        file.seek(at)
        key, at = _varint(file, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(file, at)
            yield key >> 3, (value, value)
        elif kind == 2:
            length, at = _varint(file, at)
            if length > end - at:
                raise ValueError("cut short")
            yield key >> 3, (at, at + length)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not a message")


def _varint(file: BinaryIO, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("cut short")
        at += 1
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value, at
    raise ValueError("too long a number")


def _text(file: BinaryIO, span: tuple[int, int]) -> str:
    if span[1] - span[0] > LONGEST_TEXT:
        raise ValueError("too long a name")
    file.seek(span[0])
    return file.read(span[1] - span[0]).decode()


def _within(file: BinaryIO, span: tuple[int, int]) -> dict[int, tuple[int, int]]:
    return dict(_fields(file, *span))


def _onnx_port(file: BinaryIO, span: tuple[int, int]) -> Port:
    about = _within(file, span)
    tensor = _within(file, _within(file, about[2])[1]) if 2 in about and 1 in _within(file, about[2]) else {}
    shape = []
    if 2 in tensor:
        for _, part in _fields(file, *tensor[2]):
            shape.append(_within(file, part).get(1, (0, 0))[0])
    return Port(_text(file, about[1]), ONNX_TYPES.get(tensor.get(1, (0, 0))[0], ""), tuple(shape))


def _tensorflow_signature(file: BinaryIO, span: tuple[int, int]) -> Signature:
    sides: dict[int, list[Port]] = {1: [], 2: []}
    for field, part in _fields(file, *span):
        if field in sides:
            entry = _within(file, part)
            sides[field].append(_tensorflow_port(file, _text(file, entry[1]), entry[2]))
    return Signature(tuple(sides[1]), tuple(sides[2]))


def _tensorflow_port(file: BinaryIO, name: str, span: tuple[int, int]) -> Port:
    about = _within(file, span)
    shape = []
    for field, part in _fields(file, *about[3]) if 3 in about else ():
        if field == 2:
            length = _within(file, part).get(1, (0, 0))[0]
            # -1, a length that is not fixed, is written as 2^64 - 1.
            shape.append(0 if length >= 1 << 63 else length)
    return Port(name, TENSORFLOW_TYPES.get(about.get(2, (0, 0))[0], ""), tuple(shape))


def _slot(data: bytes, table: int, field: int) -> int:
    """Return where a FlatBuffers table keeps a field; 0 where it does not."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * field >= struct.unpack_from("<H", data, layout)[0]:
        return 0
    offset = struct.unpack_from("<H", data, layout + 4 + 2 * field)[0]
    return table + offset if offset else 0


def _vector(data: bytes, table: int, field: int) -> list[int]:
    """Return where the elements of a vector of 4 bytes each stand."""
    slot = _slot(data, table, field)
    if not slot:
        return []
    start = slot + struct.unpack_from("<I", data, slot)[0]
    length = struct.unpack_from("<I", data, start)[0]
    if length * 4 > len(data):
        raise ValueError("cut short")
    return [start + 4 + 4 * number for number in range(length)]


def _tflite_port(data: bytes, tensor: int) -> Port:
    # shape_signature (7) says which lengths are not fixed; shape (0) has 1 there.
    places = _vector(data, tensor, 7) or _vector(data, tensor, 0)
    shape = tuple(max(0, struct.unpack_from("<i", data, at)[0]) for at in places)
    kind, name = _slot(data, tensor, 1), _slot(data, tensor, 3)
    text = ""
    if name:
        start = name + struct.unpack_from("<I", data, name)[0]
        text = data[start + 4 : start + 4 + struct.unpack_from("<I", data, start)[0]].decode()
    return Port(text, TFLITE_TYPES.get(data[kind] if kind else 0, ""), shape)
