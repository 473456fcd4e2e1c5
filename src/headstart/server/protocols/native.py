"""headstart's own protocol: rows in, answer records out, and what operators ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from headstart.core import VERSION
from headstart.core.errors import RequestError, UsageError, listed, nearest
from headstart.core.protocol import Protocol
from headstart.server import openapi, page
from headstart.server.errors import error_response, json_response
from headstart.server.models.served import Served
from headstart.server.requests.bodies import header
from headstart.server.requests.rows import kind, read_json, short
from headstart.server.requests.uploads import is_upload, read_upload
from headstart.server.service import Service

ROWS = "rows"
ALIVE = {"status": "alive"}
"""What clients of KServe's v1 protocol look for here, to know that the server lives."""
JAVASCRIPT = b"<script src="


@final
class Native(Protocol):
    """`POST /predict`, and routes for browsers, probes and Prometheus."""

    def routes(self, service: Service) -> APIRouter:
        """Return the routes."""
        router = APIRouter(tags=["headstart"])
        _predict_routes(router, service)
        _model_routes(router, service)
        _health_routes(router, service)
        _page_routes(router, service)
        return router


def _predict_routes(router: APIRouter, service: Service) -> None:
    @router.post("/predict", operation_id="predict", summary="Answer one row or many")
    async def predict(request: Request) -> Response:
        """Send one row (an object of fields, or a text), or `{"rows": [row, …]}`."""
        return await _predicted(service, request, service.shelf.find())

    told = openapi.errors(*openapi.ASKED)

    @router.post("/models/{name}/predict", operation_id="predict_of_model", summary="Ask a model", responses=told)
    async def of_model(request: Request, name: str) -> Response:
        """Ask the version of a model that answers now."""
        return await _predicted(service, request, service.shelf.find(name))

    @router.post(
        "/models/{name}/versions/{version}/predict",
        operation_id="predict_of_version",
        summary="Ask a version of a model",
        responses=told,
    )
    async def of_version(request: Request, name: str, version: str) -> Response:
        """Ask one version of a model, whatever its part."""
        return await _predicted(service, request, service.shelf.find(name, version))


async def _predicted(service: Service, request: Request, served: Served) -> Response:
    body, content_type = await service.body(request), header(request.scope, b"content-type") or ""
    options = _options(request, served) if request.scope["query_string"] else {}
    if is_upload(content_type, served.fields):
        uploaded, many = await read_upload(body, content_type, served.fields)
        service.check_count(len(uploaded))
        answers = await service.answer(request, served, uploaded, options)
        return json_response({"predictions": answers} if many else answers[0])
    document = read_json(body)
    if _is_many(served, document):
        rows = served.fields.rows(_many(service, served, document))
        return json_response({"predictions": await service.answer(request, served, rows, options)})
    if isinstance(document, list):
        raise RequestError("The body is a list.", allowed='Several rows are sent as {"rows": [row, …]}.')
    row = served.fields.row(document)
    return json_response((await service.answer(request, served, [row], options))[0])


def _options(request: Request, served: Served) -> dict[str, Any]:
    """Return the options in a request's query, read as JSON where they are."""
    found: dict[str, Any] = {}
    for name, value in request.query_params.items():
        if name not in served.options:
            raise UsageError(
                f"The model '{served.name}' has no option '{short(name)}'.",
                allowed=f"Its options: {listed(served.options)}." if served.options else "It has none.",
                hint=nearest(short(name), served.options),
            )
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[name] = value
    return found


def _is_many(served: Served, document: Any) -> bool:
    """Return whether a body is of the form with many rows; a model may have a column called `rows`."""
    if not isinstance(document, dict) or ROWS not in document:
        return False
    return isinstance(document[ROWS], list) or ROWS not in served.fields.columns


def _many(service: Service, served: Served, document: Mapping[str, Any]) -> list[Any]:
    values = document[ROWS]
    if not isinstance(values, list):
        raise RequestError(f"'{ROWS}' is {kind(values)}.", allowed="It must be a list of rows.")
    beside = [name for name in document if name != ROWS]
    if beside:
        raise RequestError(
            f"There is a field '{short(beside[0])}' beside '{ROWS}'.",
            allowed=f"Beside '{ROWS}' nothing is read; a row has the fields {listed(served.fields.columns)}.",
            hint=nearest(short(beside[0]), served.fields.columns),
        )
    service.check_count(len(values))
    return values


def _model_routes(router: APIRouter, service: Service) -> None:
    @router.get("/models", operation_id="models", summary="What is served here")
    async def models() -> Response:
        """List the models, with what each reads and gives."""
        return json_response({"models": [about(each) for each in service.shelf.all()]})

    @router.get("/models/{name}", operation_id="model", summary="One model", responses=openapi.errors(404))
    async def model(name: str) -> Response:
        """Tell what a model reads and gives, and its versions."""
        served = service.shelf.find(name)
        schemas = {"row": openapi.row_schema(served), "answer": openapi.answer_schema(served)}
        entry = service.shelf.entry(name)
        versions = {version: entry.role(version) for version in entry.versions}
        return json_response(about(served) | {"versions": versions, "schemas": schemas})


def about(served: Served) -> dict[str, Any]:
    """Return what a program may know of a model, as plain JSON data."""
    return {
        "name": served.name,
        "version": served.version,
        "task": served.task,
        "columns": served.columns,
        "targets": served.targets,
        "options": dict(served.options),
        "example": {"row": served.example, "answer": served.example_answer},
        "links": {"predict": f"/models/{served.name}/predict"},
    }


def _health_routes(router: APIRouter, service: Service) -> None:
    @router.get("/health/live", operation_id="live", summary="Whether the process works", responses=openapi.errors(503))
    async def live() -> Response:
        """Answer 503 where only a restart helps: the model's thread has ended, or is stuck."""
        if service.dead:
            return error_response(503, service.dead, "Restart the server.")
        return json_response({"status": "live"})

    @router.get(
        "/health/ready", operation_id="ready", summary="Whether requests are welcome", responses=openapi.errors(503)
    )
    async def ready() -> Response:
        """Answer 503 before all models are warm and from the moment the server is told to stop."""
        if service.ready:
            return json_response({"status": "ready"})
        return error_response(503, service.dead or f"The server is {'stopping' if service.draining else 'starting'}.")

    @router.get("/metrics", operation_id="metrics", summary="Measures for Prometheus", response_class=_Exposition)
    async def metrics(request: Request) -> Response:
        """Give the measures in Prometheus' exposition format."""
        text, content_type = service.metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})


@final
class _Exposition(Response):
    media_type = "text/plain"


LINKS = {"predict": "/predict", "docs": "/docs", "openapi": "/openapi.json", "metrics": "/metrics", "models": "/models"}


def _page_routes(router: APIRouter, service: Service) -> None:
    @router.get("/", operation_id="about", summary="What is served here, for people and programs")
    async def front(request: Request) -> Response:
        """Give the model's name, columns and targets; to a browser, a page that asks it."""
        if "text/html" in request.headers.get("accept", ""):
            headers = {"Content-Security-Policy": page.POLICY, "Vary": "Accept"}
            shown = page.html(service.shelf.all(), request.query_params.get("model", ""))
            return HTMLResponse(shown, headers=headers)
        every = service.shelf.all()
        told = about(every[0]) if len(every) == 1 else {"models": [about(each) for each in every]}
        return json_response({"headstart": VERSION} | ALIVE | told | {"links": LINKS}, headers={"Vary": "Accept"})

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        """Show Swagger UI, which a browser fetches from the web; where it cannot, show the page that needs no web."""
        title = request.app.title
        shown = get_swagger_ui_html(openapi_url="openapi.json", title=title, swagger_favicon_url="data:,")
        offline = b"<script onerror=\"location.replace('.')\" src="
        return HTMLResponse(bytes(shown.body).replace(JAVASCRIPT, offline, 1))
