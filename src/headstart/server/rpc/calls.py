"""What each remote procedure answers, from the same service as the routes over HTTP."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from headstart.core.errors import HeadstartError, RequestError
from headstart.core.registry import require
from headstart.server.errors import CLIENT_GONE, Errors
from headstart.server.protocols import _about, _tensors
from headstart.server.protocols._infer import Asked, answered, elsewhere, wanted_of
from headstart.server.requests.rows import short
from headstart.server.rpc.messages import Rpc, rpcs
from headstart.server.service import Service

INFERENCE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
CHANGES = frozenset((f"/{INFERENCE}/RepositoryModelLoad", f"/{INFERENCE}/RepositoryModelUnload"))
LARGE = 100_000
"""Bytes of a message from which on it is read outside of the event loop."""
CONTENTS = {
    "BOOL": "bool_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the elements of each datatype stand in a tensor's contents; of others only the bytes can be sent."""


@final
class Calls:
    """Answers calls, each of which comes as a POST of its message to its path, as HTTP/2 carries it; pure ASGI.

    Args:
        service: what they are answered from.
        errors: tells headstart's own errors.

    Attributes:
        known: the calls by path.
    """

    def __init__(self, service: Service, errors: Errors) -> None:
        self._service, self._errors = service, errors
        self._fill = require("google.protobuf.json_format", "grpc").ParseDict
        self.known = {f"/{name}/{call}": rpc for name, each in rpcs().items() for call, rpc in each.items()}
        answers: Mapping[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: {"live": not service.dead},
            "ServerReady": lambda _: {"ready": service.ready},
            "ServerMetadata": lambda _: _about.SERVER,
            "ModelReady": lambda asked: {"ready": self._is_ready(asked.name, asked.version)},
            "ModelMetadata": self._metadata,
            "ModelConfig": lambda asked: {"config": _about.config(service.shelf.find(asked.name, asked.version))},
            "ModelStatistics": lambda asked: _about.statistics(service, asked.name, asked.version),
            "RepositoryIndex": lambda asked: {"models": _about.index(service)},
        }
        self._answers = {f"/{INFERENCE}/{name}": answer for name, answer in answers.items()}
        self._answers[f"/{HEALTH}/Check"] = self._check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        try:
            response = await self._answered(Request(scope, receive, send))
        except HeadstartError as error:
            response = self._errors.refusal(scope["path"], error)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_GONE)
        await response(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        path = request.scope["path"]
        rpc = self.known[path]
        body = await self._service.body(request)
        asked = await self._service.in_pool(_parsed, rpc, body) if len(body) > LARGE else _parsed(rpc, body)
        if path in CHANGES:
            raise elsewhere(asked.model_name, "loaded" if path.endswith("ModelLoad") else "unloaded")
        if path not in self._answers:
            return Response((await self._infer(request, asked, rpc)).SerializeToString())
        # What Triton's messages have beyond these is left out of the files here.
        told = self._fill(self._answers[path](asked), rpc.answer(), ignore_unknown_fields=True)
        return Response(told.SerializeToString())

    def _is_ready(self, name: str, version: str) -> bool:
        try:
            self._service.shelf.find(name, version)
        except RequestError:
            return False
        return self._service.ready

    def _metadata(self, asked: Any) -> dict[str, Any]:
        shelf = self._service.shelf
        return _about.metadata(shelf.find(asked.name, asked.version), list(shelf.versions(asked.name)))

    def _check(self, asked: Any) -> dict[str, Any]:
        fine = {"": self._service.ready, INFERENCE: self._service.ready, "liveness": not self._service.dead}
        if asked.service not in fine:
            raise RequestError(
                f"There is no service '{short(asked.service)}'.", status=404, allowed=f"'', {INFERENCE}, liveness."
            )
        return {"status": "SERVING" if fine[asked.service] else "NOT_SERVING"}

    async def _infer(self, request: Request, given: Any, rpc: Rpc) -> Any:
        served = self._service.shelf.find(given.model_name, given.model_version)
        large = given.ByteSize() > LARGE
        asked = await self._service.in_pool(_asked, given) if large else _asked(given)
        head, tensors = await answered(self._service, request, served, asked)
        answer = rpc.answer(**head)
        for tensor, _ in tensors:
            told = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            # Either all of a message's tensors are raw, or none: the client gets them as it sends its own.
            if asked.binary:
                answer.raw_output_contents.append(tensor.raw())
            else:
                getattr(told.contents, CONTENTS[tensor.datatype]).extend(_elements(tensor))
        return answer


def _parsed(rpc: Rpc, body: bytes) -> Any:
    try:
        return rpc.request.FromString(body)
    except Exception as error:
        raise RequestError(f"The message cannot be read: {error}.", status=400) from None


def _asked(given: Any) -> Asked:
    raw = given.raw_input_contents
    if raw and len(raw) != len(given.inputs):
        raise RequestError(
            f"There are {len(given.inputs)} inputs and {len(raw)} raw_input_contents.",
            status=400,
            allowed="Each input has its own, or none has any.",
        )
    inputs = [_input(each, raw[number] if raw else None) for number, each in enumerate(given.inputs)]
    columns = _tensors.read_inputs(inputs, b"".join(raw))
    outputs = [{"name": each.name, "parameters": _plain(each.parameters)} for each in given.outputs]
    return Asked(given.id, columns, wanted_of(outputs, bool(raw)), bool(raw), _plain(given.parameters))


def _input(given: Any, raw: bytes | None) -> dict[str, Any]:
    """Return an input as it stands in JSON, its bytes behind it."""
    told = {"name": given.name, "datatype": given.datatype, "shape": list(given.shape)}
    parameters = _plain(given.parameters)
    if raw is None:
        field = CONTENTS.get(given.datatype)
        return {**told, "parameters": parameters, "data": list(getattr(given.contents, field)) if field else []}
    if given.HasField("contents"):
        raise RequestError(f"Input '{short(given.name)}' has contents and raw_input_contents.", status=400)
    return {**told, "parameters": {**parameters, "binary_data_size": len(raw)}}


def _plain(parameters: Any) -> dict[str, Any]:
    kinds = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], kind) if kind else None for name, kind in kinds.items()}


def _elements(tensor: _tensors.Tensor) -> Sequence[Any]:
    if tensor.datatype == _tensors.BYTES:
        return [value.encode("utf-8", "surrogatepass") for value in tensor.data()]
    return [math.nan if value is None else value for value in tensor.data()]
