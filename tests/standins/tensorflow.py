"""A SavedModel folder as TensorFlow writes one, made without TensorFlow: a few fields of its Protocol Buffers."""

from __future__ import annotations

import struct
from pathlib import Path

FLOAT, INT32 = 1, 3


def saved_model(folder: Path, shape: tuple[int, ...] = (-1, 16, 16, 3)) -> Path:
    """Write a SavedModel that gives the mean colour (n, 3) of pictures (n, height, width, 3)."""
    graph = _message(
        (1, _node("images", "Placeholder", [], dtype=_type(FLOAT), shape=_field(7, _shape(shape)))),
        (1, _node("axes", "Const", [], dtype=_type(INT32), value=_field(8, _axes(1, 2)))),
        (1, _node("colour", "Mean", ["images", "axes"], T=_type(FLOAT), Tidx=_type(INT32), keep_dims=_number(5, 0))),
        (4, _number(1, 1882)),
    )
    signature = _message(
        (1, _entry("images", _tensor("images:0", shape))),
        (2, _entry("colour", _tensor("colour:0", (shape[0], shape[-1])))),
        (3, b"tensorflow/serving/predict"),
    )
    meta = _message((1, _field(4, b"serve")), (2, graph), (5, _entry("serving_default", signature)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "variables").mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_bytes(_number(1, 1) + _field(2, meta))
    return folder


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _message(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(_field(number, content) for number, content in fields)


def _entry(key: str, value: bytes) -> bytes:
    return _field(1, key.encode()) + _field(2, value)


def _type(kind: int) -> bytes:
    return _number(6, kind)


def _shape(lengths: tuple[int, ...]) -> bytes:
    return b"".join(_field(2, _number(1, each)) for each in lengths)


def _axes(*values: int) -> bytes:
    return _number(1, INT32) + _field(2, _shape((len(values),))) + _field(4, struct.pack(f"<{len(values)}i", *values))


def _tensor(name: str, shape: tuple[int, ...]) -> bytes:
    return _field(1, name.encode()) + _number(2, FLOAT) + _field(3, _shape(shape))


def _node(name: str, operation: str, inputs: list[str], **attributes: bytes) -> bytes:
    return _message(
        (1, name.encode()),
        (2, operation.encode()),
        *((3, each.encode()) for each in inputs),
        *((5, _entry(key, value)) for key, value in attributes.items()),
    )
