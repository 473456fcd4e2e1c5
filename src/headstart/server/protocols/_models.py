"""The two addresses that OpenAI's, TensorFlow Serving's and KServe's v1 clients all ask: one answer that suits each."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from headstart.server.errors import json_response
from headstart.server.models.served import Served
from headstart.server.protocols import _schemas
from headstart.server.service import Service

OWNER = "headstart"


def add_routes(router: APIRouter, service: Service, *, shown: bool) -> None:
    """Add `GET /v1/models` and `GET /v1/models/{name}`; whichever protocol adds them first answers.

    Args:
        router: of a protocol, without a prefix.
        service: what they answer from.
        shown: whether they stand in the OpenAPI document.
    """
    shelf = service.shelf

    @router.get("/v1/models", operation_id="v1_models", summary="The models that are served", include_in_schema=shown)
    async def models() -> Response:
        """List the models; `data` as OpenAI has it, `models` as KServe has it."""
        data = [_model(each) for each in shelf.all()]
        return json_response({"object": "list", "data": data, "models": shelf.names()})

    @router.get(
        "/v1/models/{name}",
        operation_id="v1_model",
        summary="One model",
        include_in_schema=shown,
        responses=_schemas.errors(_schemas.OPENAI, 404) if shown else None,
    )
    async def model(name: str) -> Response:
        """Tell of a model; `model_version_status` as TensorFlow Serving has it, `ready` as KServe has it."""
        found = _model(shelf.find(name))
        told = {"name": name, "ready": service.ready, "model_version_status": statuses(service, name)}
        return json_response({**found, **told}, 200 if service.ready else 503)


def _model(served: Served) -> dict[str, Any]:
    return {"id": served.name, "object": "model", "created": int(served.opened.timestamp()), "owned_by": OWNER}


def statuses(service: Service, name: str, version: str = "") -> list[dict[str, Any]]:
    """Return the state of a model's versions, or of one of them.

    Raises:
        RequestError: there is none (status 404).
    """
    versions = [service.shelf.find(name, version).version] if version else list(service.shelf.versions(name))
    state = "AVAILABLE" if service.ready else "UNLOADING"
    status = {"error_code": "OK", "error_message": ""}
    return [{"version": each, "state": state, "status": status} for each in versions]


def is_tensorflow(path: str) -> bool:
    """Return whether a path is one of TensorFlow Serving's alone.

    >>> [is_tensorflow(path) for path in ("/v1/models/a:predict", "/v1/models/a/versions/1", "/v1/models/a")]
    [True, True, False]
    """
    head, _, rest = path.removeprefix("/v1/models/").partition("/")
    if not path.startswith("/v1/models/"):
        return False
    last = path.rpartition(":")[2]
    return last in ("predict", "classify", "regress", "explain") or (
        bool(head) and rest.startswith(("versions", "labels", "metadata"))
    )
