"""Tensors of the Open Inference Protocol, as JSON and as bytes: from a request to cells, and from answers back."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import orjson

from headstart.core.errors import RequestError, listed
from headstart.server.requests.rows import kind, short

BYTES = "BYTES"
KINDS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("u1"),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BF16": np.dtype("<u2"),
}
"""How the elements of each datatype lie in binary data; those of BYTES follow their length, four bytes each."""
LENGTH = struct.Struct("<I")
LARGEST = 1 << 40
"""More elements than any request holds."""


@final
@dataclass(frozen=True)
class Tensor:
    """One output: `values` are a list of plain values (texts for BYTES), or an array for its own bytes.

    Args:
        name: what it is called.
        datatype: of the protocol.
        shape: of its axes.
        values: its elements, the last axis first to run.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    values: list[Any] | np.ndarray

    def data(self) -> list[Any]:
        """Return the elements for JSON."""
        return self.values.ravel().tolist() if isinstance(self.values, np.ndarray) else self.values

    def raw(self) -> bytes:
        """Return the elements for binary data."""
        if isinstance(self.values, np.ndarray):
            return self.values.astype(KINDS[self.datatype], copy=False).tobytes()
        if self.datatype != BYTES:
            filled = [math.nan if value is None else value for value in self.values]
            return np.array(filled, KINDS[self.datatype]).tobytes()
        parts = []
        for value in self.values:
            text = value.encode("utf-8", "surrogatepass")
            parts += [LENGTH.pack(len(text)), text]
        return b"".join(parts)


def split(body: bytes, header: str | None) -> tuple[bytes, bytes]:
    """Return a body's JSON and the binary data behind it.

    Args:
        body: of the request.
        header: the value of `Inference-Header-Content-Length`, which says how long the JSON is; None: all of it.

    Raises:
        RequestError: the header is not the length of a part of the body (status 400).
    """
    if header is None:
        return body, b""
    size = int(header) if header.isascii() and header.isdecimal() and len(header) < 16 else -1
    if not 0 <= size <= len(body):
        raise RequestError(
            f"Inference-Header-Content-Length is '{short(header)}'.",
            status=400,
            allowed=f"It is the length of the JSON at the body's start: 0 to {len(body)} bytes here.",
        )
    return body[:size], body[size:]


def read_inputs(inputs: Any, binary: bytes) -> dict[str, list[Any]]:
    """Return the cells of each input tensor, by name: texts or bytes for BYTES, else numbers, with None for NaN.

    Args:
        inputs: the request's list of tensors.
        binary: the data behind the JSON, in the order of the tensors that say `binary_data_size`.

    Raises:
        RequestError: one of them cannot be used (status 400).
    """
    if not isinstance(inputs, list) or not inputs:
        shown = "empty" if inputs == [] else kind(inputs)
        raise _refused(f"'inputs' is {shown}", 'It is a list of tensors: {"name", "shape", "datatype", "data"}')
    columns: dict[str, list[Any]] = {}
    at = 0
    for number, given in enumerate(inputs, start=1):
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise _refused(f"Input {number} has no name", 'A tensor is {"name", "shape", "datatype", "data"}')
        name = given["name"]
        where = f"Input '{short(name)}'"
        if name in columns:
            raise _refused(f"{where} is given twice", "Each input has a name of its own")
        size = _binary_size(given, where)
        if size is not None and size > len(binary) - at:
            raise _refused(f"{where} has {size} bytes of binary data", f"{len(binary) - at} are there")
        columns[name] = _cells(given, where, None if size is None else binary[at : at + size])
        at += size or 0
    if at != len(binary):
        raise _refused(f"{len(binary) - at} bytes of binary data belong to no input", "Each says its binary_data_size")
    counts = {name: len(cells) for name, cells in columns.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"'{short(name)}' {count}" for name, count in counts.items())
        raise _refused(f"The inputs have different numbers of rows: {shown}", "All have the same")
    return columns


def _binary_size(given: Mapping[str, Any], where: str) -> int | None:
    parameters = given.get("parameters")
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise _refused(f"{where}: 'parameters' is {kind(parameters)}", "It is an object")
    if "shared_memory_region" in parameters:
        raise _refused(f"{where} lies in shared memory", "Send its data in the request")
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _refused(f"{where}: binary_data_size is {_shown(size)}", "It is a number of bytes")
    return size


def _cells(given: Mapping[str, Any], where: str, raw: bytes | None) -> list[Any]:
    datatype = given.get("datatype")
    if not isinstance(datatype, str) or (datatype not in KINDS and datatype != BYTES):
        raise _refused(f"{where}: 'datatype' is {_shown(datatype)}", f"Datatypes: {listed([BYTES, *KINDS], 20)}")
    count = _count(given.get("shape"), where)
    if raw is not None:
        if "data" in given:
            raise _refused(f"{where} has 'data' and binary data", "It has one of them")
        return _of_texts(raw, count, where) if datatype == BYTES else _of_bytes(raw, datatype, count, where)
    if "data" not in given:
        raise _refused(f"{where} has no 'data'", "Its elements stand in 'data', or behind the JSON (binary_data_size)")
    flat = _flat(given["data"], where)
    if len(flat) != count:
        raise _refused(f"{where} has {len(flat)} elements", f"Its shape {given['shape']} says {count}")
    if datatype == "BF16":
        raise _refused(f"{where} has BF16 in JSON", "Send it as binary data, or as FP32")
    return [_plain(value, datatype, where) for value in flat]


def _count(shape: Any, where: str) -> int:
    fine = isinstance(shape, list) and 0 < len(shape) <= 8
    if not fine or not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape):
        raise _refused(f"{where}: 'shape' is {_shown(shape)}", "It is [rows], such as [2]")
    if any(size != 1 for size in shape[1:]) or shape[0] > LARGEST:
        raise _refused(
            f"{where} has the shape {_shown(shape)}", "This model reads one value in each row: [n] or [n, 1]"
        )
    return int(shape[0])


def _of_bytes(raw: bytes, datatype: str, count: int, where: str) -> list[Any]:
    dtype = KINDS[datatype]
    if len(raw) != count * dtype.itemsize:
        raise _refused(f"{where} has {len(raw)} bytes", f"{count} elements of {datatype} have {count * dtype.itemsize}")
    values = np.frombuffer(raw, dtype)
    if datatype == "BOOL":
        return (values != 0).tolist()
    if datatype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if values.dtype.kind == "f":
        if np.isinf(values).any():
            raise _infinite(where)
        return [None if math.isnan(value) else value for value in values.tolist()]
    return values.tolist()


def _of_texts(raw: bytes, count: int, where: str) -> list[Any]:
    cells: list[Any] = []
    at = 0
    while at < len(raw) and len(cells) <= count:
        if at + LENGTH.size > len(raw):
            raise _refused(f"{where} ends within a length", "Each element follows its length in four bytes")
        start = at + LENGTH.size
        at = start + LENGTH.unpack_from(raw, at)[0]
        if at > len(raw):
            raise _refused(f"{where}: element {len(cells) + 1} is longer than the data", "Lengths are little-endian")
        cells.append(raw[start:at])
    if len(cells) != count or at != len(raw):
        raise _refused(f"{where} has {len(cells)} elements or more", f"Its shape says {count}")
    return cells


def _infinite(where: str) -> RequestError:
    return _refused(f"{where} holds Infinity", "Numbers are finite; NaN means that there is none")


def _flat(data: Any, where: str) -> list[Any]:
    """Return the elements of nested lists in order."""
    if not isinstance(data, list):
        raise _refused(f"{where}: 'data' is {kind(data)}", "It is a list")
    for _ in range(8):
        if not any(isinstance(value, list) for value in data):
            return data
        data = [each for value in data for each in (value if isinstance(value, list) else [value])]
    raise _refused(f"{where} is nested too deep", "At most 8 axes")


def _plain(value: Any, datatype: str, where: str) -> Any:
    if value is None:
        return None
    if datatype == BYTES:
        fine = isinstance(value, (str, bytes))
    elif datatype == "BOOL":
        fine = isinstance(value, bool) or value in (0, 1)
        value = bool(value) if fine else value
    elif datatype.startswith("FP"):
        fine = isinstance(value, (int, float)) and not isinstance(value, bool)
        if fine and math.isnan(value):
            return None
        if fine and math.isinf(value):
            raise _infinite(where)
    else:
        fine = isinstance(value, int) and not isinstance(value, bool)
    if not fine:
        raise _refused(f"{where} holds {_shown(value)}", f"Its datatype is {datatype}")
    return value


def datatype_of(schema: Mapping[str, Any]) -> str:
    """Return the datatype of a column's JSON Schema; what is no plain value is BYTES of JSON.

    >>> datatype_of({"type": "number"}), datatype_of({"type": ["string", "null"]}), datatype_of({"type": "array"})
    ('FP64', 'BYTES', 'BYTES')
    """
    types = schema.get("type", "object")
    first = types if isinstance(types, str) else next((each for each in types if each != "null"), "object")
    return {"number": "FP64", "integer": "INT64", "boolean": "BOOL"}.get(first, BYTES)


def output(name: str, schema: Mapping[str, Any], cells: Sequence[Any]) -> Tensor:
    """Return an answer column as a tensor [n]; an answer that is missing is NaN, or an empty text."""
    datatype = datatype_of(schema)
    if datatype in ("INT64", "BOOL") and any(cell is None for cell in cells):
        datatype = "FP64"
    if datatype == BYTES:
        texts = schema.get("type") in ("string", ["string", "null"])
        return Tensor(name, BYTES, [len(cells)], [_text(cell, texts) for cell in cells])
    return Tensor(name, datatype, [len(cells)], list(cells))


def _text(cell: Any, is_text: bool) -> str:
    if cell is None:
        return ""
    if is_text and isinstance(cell, str):
        return cell
    return orjson.dumps(cell, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def written(head: Mapping[str, Any], tensors: Sequence[tuple[Tensor, bool]]) -> tuple[bytes, int | None]:
    """Return a response's body, and the length of its JSON where binary data follows it.

    Args:
        head: what stands before the outputs.
        tensors: each with whether its data are binary.
    """
    outputs, behind = [], []
    for tensor, binary in tensors:
        told: dict[str, Any] = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        if binary:
            raw = tensor.raw()
            behind.append(raw)
            told["parameters"] = {"binary_data_size": len(raw)}
        else:
            told["data"] = tensor.data()
        outputs.append(told)
    text = orjson.dumps({**head, "outputs": outputs})
    if not behind:
        return text, None
    return b"".join([text, *behind]), len(text)


def _shown(value: Any) -> str:
    return f"'{short(value)}'" if isinstance(value, str) else short(str(value))


def _refused(problem: str, allowed: str) -> RequestError:
    return RequestError(f"{problem}.", status=400, allowed=f"{allowed}.")
