"""Messages: the classes that the `.proto` files beside this one describe, made when the server starts.

Generated code is bound to the versions of protobuf that may load it, and registers its names for the whole process,
where those of a client in the same process stand already. These classes live in a pool of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, final

from headstart.core.registry import require

FILES = ("open_inference.proto", "health.proto")
SCALARS = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
}
"""The numbers by which descriptors call these types."""
OPTIONAL, REPEATED = 1, 3
BLOCKS = {"enum": "enum_type", "oneof": "oneof_decl", "service": "service"}
"""Where a descriptor keeps its blocks, other than messages."""
COMMENT, END = re.compile(r"//[^\n]*"), re.compile(r"(?<=[;{}])")
SYNTAX, PACKAGE = re.compile(r'syntax = "proto3";'), re.compile(r"package ([\w.]+);")
BLOCK = re.compile(r"(message|enum|oneof|service) (\w+) \{")
RPC = re.compile(r"rpc (\w+)\((\w+)\) returns \((\w+)\);")
FIELD = re.compile(r"(repeated )?(?:map<string, (\w+)>|(\w+)) (\w+) = (\d+);")
VALUE = re.compile(r"(\w+) = (\d+);")


@final
@dataclass(frozen=True)
class Rpc:
    """One remote procedure: the classes of its request and its answer."""

    request: Any
    answer: Any


def rpcs() -> Mapping[str, Mapping[str, Rpc]]:
    """Return the remote procedures by service, such as `inference.GRPCInferenceService`, and by name.

    Raises:
        MissingExtra: protobuf is not installed.
    """
    pools = require("google.protobuf.descriptor_pool", "grpc")
    make = require("google.protobuf.message_factory", "grpc").GetMessageClass
    pool, found = pools.DescriptorPool(), {}
    for name in FILES:
        file = described((files(__package__) / name).read_text(encoding="utf-8"), name)
        pool.AddSerializedFile(file.SerializeToString())
        for each in file.service:
            service = pool.FindServiceByName(f"{file.package}.{each.name}")
            found[service.full_name] = {
                rpc.name: Rpc(make(rpc.input_type), make(rpc.output_type)) for rpc in service.methods
            }
    return found


def described(text: str, name: str) -> Any:
    """Return what a `.proto` file describes as a FileDescriptorProto; of the language, what the files here use.

    Args:
        text: what stands in the file.
        name: what it is called.

    Raises:
        ValueError: a line is not understood.
    """
    file = require("google.protobuf.descriptor_pb2", "grpc").FileDescriptorProto(name=name, syntax="proto3")
    open_blocks: list[tuple[str, Any]] = [("file", file)]
    for line in map(str.strip, END.split(COMMENT.sub("", text))):
        kind, owner = open_blocks[-1]
        if package := PACKAGE.fullmatch(line):
            file.package = package[1]
        elif line == "}":
            open_blocks.pop()
        elif block := BLOCK.fullmatch(line):
            open_blocks.append((block[1], _begun(kind, owner, block[1], block[2])))
        elif rpc := RPC.fullmatch(line):
            owner.method.add(name=rpc[1], input_type=rpc[2], output_type=rpc[3])
        elif field := FIELD.fullmatch(line):
            # What stands in a oneof is a field of the message around it.
            _add_field(open_blocks[-2][1] if kind == "oneof" else owner, field, choice=kind == "oneof")
        elif (value := VALUE.fullmatch(line)) and kind == "enum":
            owner.value.add(name=value[1], number=int(value[2]))
        elif line and not SYNTAX.fullmatch(line):
            raise ValueError(f"{name}: '{line}' is not understood.")
    return file


def _begun(kind: str, owner: Any, block: str, name: str) -> Any:
    """Add a block to the one around it, and return it."""
    if block == "message":
        return (owner.message_type if kind == "file" else owner.nested_type).add(name=name)
    return getattr(owner, BLOCKS[block]).add(name=name)


def _add_field(message: Any, field: re.Match[str], *, choice: bool) -> None:
    repeated, of, kind, name, number = field.groups()
    if of:
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=SCALARS["string"], label=OPTIONAL)
        entry.field.add(name="value", number=2, type_name=of, label=OPTIONAL)
        repeated, kind = "repeated", entry.name
    added = message.field.add(name=name, number=int(number), label=REPEATED if repeated else OPTIONAL)
    if kind in SCALARS:
        added.type = SCALARS[kind]
    else:
        added.type_name = kind
    if choice:
        added.oneof_index = len(message.oneof_decl) - 1
