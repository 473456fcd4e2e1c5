"""headstart's own protocol: rows in, answer records out, and what operators ask for."""

from __future__ import annotations

from typing import Any, final

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from headstart.core import VERSION
from headstart.core.errors import RequestError, listed, nearest
from headstart.core.protocol import Protocol
from headstart.server import openapi, page
from headstart.server.app import Service
from headstart.server.errors import error_response, json_response
from headstart.server.rows import kind, read_json, short

ROWS = "rows"
JAVASCRIPT = b"<script src="


@final
class Native(Protocol):
    """`POST /predict`, and routes for browsers, probes and Prometheus."""

    def routes(self, service: Service) -> APIRouter:
        """Return the routes."""
        router = APIRouter(tags=["headstart"])
        _predict_route(router, service)
        _health_routes(router, service)
        _page_routes(router, service)
        return router


def _predict_route(router: APIRouter, service: Service) -> None:
    example, answer = service.example, service.example_answer
    many = {
        "type": "object",
        "properties": {ROWS: {"type": "array", "items": openapi.ROW, "maxItems": service.limits.rows}},
        "required": [ROWS],
        "additionalProperties": False,
    }
    answers = {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": openapi.ANSWER}},
        "required": ["predictions"],
    }
    asked = openapi.content({"anyOf": [openapi.ROW, many]}, {"one row": example, "many rows": {ROWS: [example]}})
    given = openapi.content(
        {"anyOf": [openapi.ANSWER, answers]}, {"one row": answer, "many rows": {"predictions": [answer]}}
    )

    @router.post(
        "/predict",
        operation_id="predict",
        summary="Answer one row or many",
        openapi_extra={"requestBody": {"required": True, "content": asked}},
        responses={
            200: {"description": "One record, or one for each row in the same order.", "content": given},
            **openapi.errors(400, 408, 413, 415, 422, 500, 503),
        },
    )
    async def predict(request: Request) -> Response:
        """Send one row (an object of fields, or a text), or `{"rows": [row, …]}`."""
        document = read_json(await service.body(request))
        if _is_many(service, document):
            rows = service.fields.rows(_many(service, document))
            return json_response({"predictions": await service.answer(request, rows)})
        if isinstance(document, list):
            raise RequestError("The body is a list.", allowed='Several rows are sent as {"rows": [row, …]}.')
        row = service.fields.row(document)
        return json_response((await service.answer(request, [row]))[0])


def _is_many(service: Service, document: Any) -> bool:
    """Return whether a body is of the form with many rows; a model may have a column called `rows`."""
    if not isinstance(document, dict) or ROWS not in document:
        return False
    return isinstance(document[ROWS], list) or ROWS not in service.fields.columns


def _many(service: Service, document: dict[str, Any]) -> list[Any]:
    values = document[ROWS]
    if not isinstance(values, list):
        raise RequestError(f"'{ROWS}' is {kind(values)}.", allowed="It must be a list of rows.")
    beside = [name for name in document if name != ROWS]
    if beside:
        raise RequestError(
            f"There is a field '{short(beside[0])}' beside '{ROWS}'.",
            allowed=f"Beside '{ROWS}' nothing is read; a row has the fields {listed(service.fields.columns)}.",
            hint=nearest(short(beside[0]), service.fields.columns),
        )
    service.check_count(len(values))
    return values


def _health_routes(router: APIRouter, service: Service) -> None:
    @router.get("/health/live", operation_id="live", summary="Whether the process works", responses=openapi.errors(503))
    async def live() -> Response:
        """Answer 503 where only a restart helps: the model's thread has ended."""
        if service.batcher.failed:
            return error_response(503, "The model's thread has ended.", "Restart the server.")
        return json_response({"status": "live"})

    @router.get(
        "/health/ready", operation_id="ready", summary="Whether requests are welcome", responses=openapi.errors(503)
    )
    async def ready() -> Response:
        """Answer 503 before the model is warm and from the moment the server is told to stop."""
        if service.ready:
            return json_response({"status": "ready"})
        return error_response(503, f"The server is {'stopping' if service.draining else 'not running'}.")

    @router.get("/metrics", operation_id="metrics", summary="Measures for Prometheus", response_class=_Exposition)
    async def metrics(request: Request) -> Response:
        """Give the measures in Prometheus' exposition format."""
        text, content_type = service.metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})


@final
class _Exposition(Response):
    media_type = "text/plain"


def _page_routes(router: APIRouter, service: Service) -> None:
    about = {
        "name": service.name,
        "headstart": VERSION,
        "columns": service.runtime.columns,
        "targets": list(service.runtime.targets),
        "example": {"row": service.example, "answer": service.example_answer},
        "links": {"predict": "/predict", "docs": "/docs", "openapi": "/openapi.json", "metrics": "/metrics"},
    }

    @router.get("/", operation_id="about", summary="What is served here")
    async def front(request: Request) -> Response:
        """Give the model's name, columns and targets; to a browser, a page that asks it."""
        if "text/html" in request.headers.get("accept", ""):
            headers = {"Content-Security-Policy": page.POLICY, "Vary": "Accept"}
            return HTMLResponse(page.html(service), headers=headers)
        return json_response(about, headers={"Vary": "Accept"})

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """Show Swagger UI, which a browser fetches from the web; where it cannot, show the page that needs no web."""
        shown = get_swagger_ui_html(openapi_url="openapi.json", title=service.name, swagger_favicon_url="data:,")
        offline = b"<script onerror=\"location.replace('.')\" src="
        return HTMLResponse(bytes(shown.body).replace(JAVASCRIPT, offline, 1))
