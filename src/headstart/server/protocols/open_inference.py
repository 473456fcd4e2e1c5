"""Open Inference Protocol v2 (KServe, Triton) over HTTP, tensors as JSON or as binary data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from fastapi import APIRouter, Request, Response

from headstart.core.errors import RequestError, listed, nearest
from headstart.core.protocol import Protocol
from headstart.server.errors import json_response
from headstart.server.models.served import Served
from headstart.server.protocols import _about, _schemas, _tensors
from headstart.server.protocols._cells import rows_of, texts_of
from headstart.server.requests.bodies import header
from headstart.server.requests.rows import kind, read_json, short
from headstart.server.service import TIMEOUT, Service

HEADER = b"inference-header-content-length"
IGNORED = ("priority", "timeout", "content_type", "headers", "triton_enable_empty_final_response")
"""Parameters of a request that are no options of a model."""
LARGE = 100_000
"""Bytes of a body from which on it is read outside of the event loop."""


@final
class OpenInference(Protocol):
    """`/v2`: metadata, readiness, statistics, repository and `infer`, as `tritonclient` and `kserve` ask for them."""

    def routes(self, service: Service) -> APIRouter:
        """Return the routes; `stats` stands before models' names, which it could be taken for."""
        router = APIRouter(prefix="/v2", tags=["open inference"])
        _server_routes(router, service)
        _repository_routes(router, service)
        _model_routes(router, service)
        _infer_routes(router, service)
        return router

    def owns(self, path: str) -> bool:
        """Return whether a path is below `/v2`."""
        return path == "/v2" or path.startswith("/v2/")

    def error(self, status: int, message: str, hint: str) -> Any:
        """Return an error as its clients read it: one text."""
        return {"error": f"{message} {hint}".strip()}


def _server_routes(router: APIRouter, service: Service) -> None:
    @router.get("", operation_id="v2_server", summary="What this server is")
    async def server() -> Response:
        return json_response(_about.SERVER)

    @router.get("/health/live", operation_id="v2_live", summary="Whether the process works")
    async def live() -> Response:
        return json_response({"live": not service.dead}, 503 if service.dead else 200)

    @router.get("/health/ready", operation_id="v2_ready", summary="Whether requests are welcome")
    async def ready() -> Response:
        return json_response({"ready": service.ready}, 200 if service.ready else 503)


def _repository_routes(router: APIRouter, service: Service) -> None:
    @router.post("/repository/index", operation_id="v2_index", summary="The models that are served")
    async def index() -> Response:
        return json_response(_about.index(service))

    @router.post(
        "/repository/models/{name}/load",
        operation_id="v2_load",
        summary="Load a model, or load it again",
        responses=_schemas.errors(_schemas.TEXT, 403),
    )
    async def load(request: Request, name: str) -> Response:
        raise _admin(name, "loaded")

    @router.post(
        "/repository/models/{name}/unload",
        operation_id="v2_unload",
        summary="Take a model away",
        responses=_schemas.errors(_schemas.TEXT, 403),
    )
    async def unload(request: Request, name: str) -> Response:
        raise _admin(name, "unloaded")


def _admin(name: str, verb: str) -> RequestError:
    return RequestError(
        f"The model '{short(name)}' is not {verb} here.",
        status=403,
        allowed="What changes the server is asked on its admin port.",
        hint="headstart serve --admin-port N opens it.",
    )


def _model_routes(router: APIRouter, service: Service) -> None:
    shelf = service.shelf
    told = {200: {"description": "What the model reads and answers."}, **_schemas.errors(_schemas.TEXT, 404)}

    @router.get("/models/stats", operation_id="v2_all_stats", summary="Statistics of all models")
    async def all_stats() -> Response:
        return json_response({"model_stats": [_about.statistics(service, each) for each in _every(service)]})

    @router.get("/models/{name}", operation_id="v2_model", summary="A model's inputs and outputs", responses=told)
    @router.get("/models/{name}/versions/{version}", include_in_schema=False)
    async def model(name: str, version: str = "") -> Response:
        return json_response(_about.metadata(shelf.find(name, version), list(shelf.versions(name))))

    @router.get(
        "/models/{name}/ready",
        operation_id="v2_model_ready",
        summary="Whether a model takes requests",
        responses=_schemas.errors(_schemas.TEXT, 404, 503),
    )
    @router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(name: str, version: str = "") -> Response:
        served = shelf.find(name, version)
        return json_response({"name": served.name, "ready": service.ready}, 200 if service.ready else 503)

    @router.get(
        "/models/{name}/config",
        operation_id="v2_config",
        summary="A model's configuration, as Triton has it",
        responses=_schemas.errors(_schemas.TEXT, 404),
    )
    @router.get("/models/{name}/versions/{version}/config", include_in_schema=False)
    async def config(name: str, version: str = "") -> Response:
        return json_response(_about.config(shelf.find(name, version)))

    @router.get(
        "/models/{name}/stats",
        operation_id="v2_stats",
        summary="A model's statistics",
        responses=_schemas.errors(_schemas.TEXT, 404),
    )
    @router.get("/models/{name}/versions/{version}/stats", include_in_schema=False)
    async def stats(name: str, version: str = "") -> Response:
        found = [shelf.find(name, version)] if version else list(shelf.versions(name).values())
        return json_response({"model_stats": [_about.statistics(service, each) for each in found]})


def _every(service: Service) -> list[Served]:
    shelf = service.shelf
    return [served for name in shelf.names() for served in shelf.versions(name).values()]


def _infer_routes(router: APIRouter, service: Service) -> None:
    schema = {
        "type": "object",
        "properties": {"inputs": {"type": "array", "items": {"type": "object"}, "minItems": 1}},
        "required": ["inputs"],
    }

    @router.post(
        "/models/{name}/infer",
        operation_id="v2_infer",
        summary="Answer rows that are sent as tensors",
        openapi_extra=_schemas.body(schema),
        responses=_schemas.errors(_schemas.TEXT, *_schemas.ASKED),
    )
    @router.post("/models/{name}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, name: str, version: str = "") -> Response:
        """Send one input for each column: `[n]` or `[n, 1]`, BYTES for texts and files, numbers as they are."""
        served = service.shelf.find(name, version)
        body, length = await service.body(request), header(request.scope, HEADER)
        read = await service.in_pool(_read, body, length) if len(body) > LARGE else _read(body, length)
        return await _answered(service, request, served, read)


@final
@dataclass(frozen=True)
class _Asked:
    """A request, read.

    Args:
        id: the client's own; empty where it gave none.
        columns: cells by input.
        outputs: those that are wanted, with whether each is to be binary; None: all.
        binary: whether outputs are binary where none are named.
        parameters: of the request.
    """

    id: str
    columns: Mapping[str, Sequence[Any]]
    outputs: Mapping[str, bool] | None
    binary: bool
    parameters: Mapping[str, Any]


def _read(body: bytes, header: str | None) -> _Asked:
    text, behind = _tensors.split(body, header)
    document = read_json(text)
    if not isinstance(document, dict):
        raise RequestError(
            f"The body is {kind(document)}.", status=400, allowed='It is {"inputs": [tensor, …]} and more.'
        )
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RequestError(f"'parameters' is {kind(parameters)}.", status=400, allowed="It is an object.")
    identity = document.get("id") or ""
    if not isinstance(identity, str):
        raise RequestError(f"'id' is {kind(identity)}.", status=400, allowed="It is a text.")
    binary = parameters.get("binary_data_output") is True
    columns = _tensors.read_inputs(document.get("inputs"), behind)
    return _Asked(identity, columns, _outputs(document.get("outputs"), binary), binary, parameters)


def _outputs(given: Any, binary: bool) -> dict[str, bool] | None:
    if given is None or given == []:
        return None
    if not isinstance(given, list) or not all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in given):
        raise RequestError("'outputs' cannot be read.", status=400, allowed='It is a list of {"name": …}.')
    wanted = {}
    for each in given:
        parameters = each.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise RequestError(f"An output's 'parameters' is {kind(parameters)}.", status=400, allowed="An object.")
        for name in ("classification", "shared_memory_region"):
            if parameters.get(name):
                raise RequestError(f"The output parameter '{name}' is not supported.", status=400, hint="Leave it out.")
        wanted[each["name"]] = parameters.get("binary_data", binary) is True
    return wanted


async def _answered(service: Service, request: Request, served: Served, asked: _Asked) -> Response:
    service.check_count(len(next(iter(asked.columns.values()))))
    _check_outputs(served, asked.outputs)
    rows = rows_of(asked.columns, served.fields)
    _allow(request, asked.parameters.get("timeout"))
    options = _options(served, asked.parameters)
    beside = asked.outputs is not None and _about.EMBEDDING in asked.outputs and not _own_vectors(served)
    tensors: dict[str, _tensors.Tensor] = {}
    if asked.outputs is None or set(asked.outputs) != {_about.EMBEDDING} or not beside:
        answers = await service.answer(request, served, rows, options)
        tensors = _columns(served, answers)
    if beside:
        vectors = await service.vectors(request, served, texts_of(rows, served.fields))
        tensors[_about.EMBEDDING] = _tensors.Tensor(_about.EMBEDDING, "FP32", vectors.shape, vectors)
    wanted = asked.outputs or dict.fromkeys(tensors, asked.binary)
    head = {"model_name": served.name, "model_version": served.version, **({"id": asked.id} if asked.id else {})}
    body, length = _tensors.written(head, [(tensors[name], binary) for name, binary in wanted.items()])
    if length is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={HEADER.decode(): str(length)})


def _own_vectors(served: Served) -> bool:
    return _about.EMBEDDING in served.answer_schema()


def _check_outputs(served: Served, outputs: Mapping[str, bool] | None) -> None:
    known = [each["name"] for each in _about.outputs(served)]
    if served.encoder is not None and _about.EMBEDDING not in known:
        known.append(_about.EMBEDDING)
    for name in outputs or ():
        if name not in known:
            raise RequestError(
                f"The model '{served.name}' has no output '{short(name)}'.",
                status=400,
                allowed=f"Outputs: {listed(known)}.",
                hint=nearest(short(name), known),
            )


def _allow(request: Request, microseconds: Any) -> None:
    """Let the request's own `timeout` hold, unless a header gives one."""
    if microseconds is None or header(request.scope, TIMEOUT) is not None:
        return
    if isinstance(microseconds, bool) or not isinstance(microseconds, int) or microseconds <= 0:
        raise RequestError(
            f"'timeout' is {kind(microseconds) if not isinstance(microseconds, int) else microseconds}.",
            status=400,
            allowed="Microseconds, a whole number above 0.",
        )
    # Where the service looks for it.
    request.scope["headers"] = [*request.scope["headers"], (TIMEOUT, str(microseconds / 1e6).encode())]


def _options(served: Served, parameters: Mapping[str, Any]) -> dict[str, Any]:
    options = {}
    for name, value in parameters.items():
        if name in served.options:
            options[name] = value
        elif name.startswith("sequence_") and value:
            raise RequestError(f"'{name}' is not supported.", status=400, allowed="Each request stands alone.")
        elif name not in IGNORED and name != "binary_data_output" and not name.startswith("sequence_"):
            raise RequestError(
                f"The model '{served.name}' has no parameter '{short(name)}'.",
                status=400,
                allowed=f"Parameters: {listed([*served.options, 'binary_data_output', *IGNORED], 20)}.",
                hint=nearest(short(name), served.options),
            )
    return options


def _columns(served: Served, answers: Sequence[Mapping[str, Any]]) -> dict[str, _tensors.Tensor]:
    schema = served.answer_schema()
    names = list(answers[0]) if answers else list(schema)
    found = {}
    for name in names:
        cells = [each[name] for each in answers]
        if name == _about.EMBEDDING:
            vectors = np.array(cells, np.float32).reshape(len(cells), -1)
            found[name] = _tensors.Tensor(name, "FP32", vectors.shape, vectors)
        else:
            found[name] = _tensors.output(name, schema.get(name, {}), cells)
    return found
