"""Feedback: what was right for a prediction that this server gave."""

from __future__ import annotations

import asyncio
from typing import Any, final

from fastapi import APIRouter, Request, Response

from headstart.core.errors import RequestError, ResourceError
from headstart.core.protocol import Protocol
from headstart.server import openapi
from headstart.server.errors import error_response, json_response
from headstart.server.protection.keyring import CALLER
from headstart.server.protocols._labels import FIELDS, SOURCES, Desk, Given, given
from headstart.server.record.journal import Journal
from headstart.server.requests.rows import kind, read_json
from headstart.server.service import Service

MANY = "feedback"
MOST = 1_000
"""Labels of one request."""
PATIENCE = 5.0
"""Seconds that the ledger is waited for."""
ITEM = {
    "type": "object",
    "properties": {
        "request_id": {"type": "string", "description": "The answer's header X-Request-ID."},
        "prediction_id": {"type": "string", "description": "Instead of request_id and row: the prediction's own id."},
        "row": {"type": "integer", "minimum": 0, "default": 0, "description": "The row's number in its request."},
        "target": {"type": "string", "description": "Which column; not needed where only one is predicted."},
        "label": {"description": "What was right: a text, a number, or a list of tags."},
        "source": {"enum": list(SOURCES), "default": "outcome"},
        "annotator": {"type": "string"},
        "minutes": {"type": "number", "minimum": 0, "description": "How long it took to find out."},
        "observed": {"type": "number", "description": "When it became known, in seconds since 1970."},
    },
    "required": ["label"],
    "additionalProperties": False,
}
TOLD = {
    "type": "object",
    "properties": {
        "status": {"enum": ["kept", "corrected", "repeated", "unknown"]},
        "prediction_id": {"type": "string"},
        "new_label": {"type": "boolean", "description": "The model does not know this label."},
    },
    "required": ["status"],
}


@final
class Feedback(Protocol):
    """`POST /feedback`: labels for predictions, one or many."""

    def routes(self, service: Service) -> APIRouter:
        """Return the route."""
        router = APIRouter(tags=["headstart"])
        many = {
            "type": "object",
            "properties": {MANY: {"type": "array", "items": ITEM, "maxItems": MOST}},
            "required": [MANY],
            "additionalProperties": False,
        }
        results = {"type": "object", "properties": {"results": {"type": "array", "items": TOLD}}}
        example = {"request_id": "0199f3c2-6d3a-7c41-9a55-0f8e6b1c2d3e", "label": "refund"}

        @router.post(
            "/feedback",
            operation_id="feedback",
            summary="Tell what was right",
            openapi_extra={
                "requestBody": {"required": True, "content": openapi.content({"anyOf": [ITEM, many]}, {"one": example})}
            },
            responses={
                200: {"description": "What became of it.", "content": openapi.content({"anyOf": [TOLD, results]})},
                **openapi.errors(400, 404, 408, 413, 415, 422, 500, 503),
            },
        )
        async def feedback(request: Request) -> Response:
            """Send one label, or `{"feedback": [label, …]}`; sent twice, it counts once; another corrects it."""
            document = read_json(await service.body(request))
            alone = not (isinstance(document, dict) and MANY in document)
            items = [given(document)] if alone else _many(document)
            told = await _kept(service, request, items)
            if items and all(each["status"] == "unknown" for each in told):
                return _unknown(items[0])
            return json_response(told[0] if alone else {"results": told})

        return router


def _many(document: dict[str, Any]) -> list[Given]:
    values = document[MANY]
    if not isinstance(values, list) or len(document) > 1:
        raise RequestError(
            f"'{MANY}' is {kind(values)}." if len(document) == 1 else f"There is something beside '{MANY}'.",
            allowed=f"A list of objects with the fields {', '.join(FIELDS)}, and nothing beside it.",
        )
    if len(values) > MOST:
        raise RequestError(f"There are {len(values):,} labels.", status=413, allowed=f"At most {MOST:,} at once.")
    return [given(each, f"Item {number}") for number, each in enumerate(values, start=1)]


async def _kept(service: Service, request: Request, items: list[Given]) -> list[dict[str, Any]]:
    journal = service.journal
    if not isinstance(journal, Journal):
        raise RequestError(
            "This server keeps no predictions, so that there is nothing to give feedback on.",
            status=404,
            hint="Start it with --ledger predictions.sqlite",
        )
    served = {
        (name, each.version): each for name in service.shelf.names() for each in service.shelf.versions(name).values()
    }
    models = request.scope[CALLER].key.models if CALLER in request.scope else ()
    try:
        asked = journal.ask(lambda ledger: Desk(ledger, served, models).take(items))
        return await asyncio.wait_for(asyncio.wrap_future(asked), PATIENCE)
    except TimeoutError:
        raise ResourceError("The ledger did not answer in time.", hint="Send the feedback again later.") from None


def _unknown(item: Given) -> Response:
    named = item.prediction_id or f"{item.request_id}, row {item.row}"
    return error_response(
        404,
        f"No prediction {named} is kept here.",
        "Predictions are known within a second, and deleted when they are too old.",
    )
