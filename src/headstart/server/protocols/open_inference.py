"""Open Inference Protocol v2 (KServe, Triton) over HTTP, tensors as JSON or as binary data."""

from __future__ import annotations

from typing import Any, final

from fastapi import APIRouter, Request, Response

from headstart.core.errors import RequestError
from headstart.core.protocol import Protocol
from headstart.server.errors import json_response
from headstart.server.models.served import Served
from headstart.server.protocols import _about, _schemas, _tensors
from headstart.server.protocols._infer import Asked, answered, elsewhere, wanted_of
from headstart.server.requests.bodies import header
from headstart.server.requests.rows import kind, read_json
from headstart.server.service import Service

HEADER = b"inference-header-content-length"
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
        raise elsewhere(name, "loaded")

    @router.post(
        "/repository/models/{name}/unload",
        operation_id="v2_unload",
        summary="Take a model away",
        responses=_schemas.errors(_schemas.TEXT, 403),
    )
    async def unload(request: Request, name: str) -> Response:
        raise elsewhere(name, "unloaded")


def _model_routes(router: APIRouter, service: Service) -> None:
    shelf = service.shelf
    told = {200: {"description": "What the model reads and answers."}, **_schemas.errors(_schemas.TEXT, 404)}

    @router.get("/models/stats", operation_id="v2_all_stats", summary="Statistics of all models")
    async def all_stats() -> Response:
        return json_response(_about.statistics(service))

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
        return json_response(_about.statistics(service, name, version))


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


async def _answered(service: Service, request: Request, served: Served, asked: Asked) -> Response:
    body, length = _tensors.written(*await answered(service, request, served, asked))
    if length is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={HEADER.decode(): str(length)})


def _read(body: bytes, header: str | None) -> Asked:
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
    return Asked(identity, columns, wanted_of(document.get("outputs"), binary), binary, parameters)
