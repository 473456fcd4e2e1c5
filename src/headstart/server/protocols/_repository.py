"""Loading and unloading in the Open Inference Protocol's form, for the admin port."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from headstart.core.errors import RequestError
from headstart.server.errors import json_response
from headstart.server.models.rollout import Rollout
from headstart.server.protocols import _about
from headstart.server.requests.bodies import read_body
from headstart.server.requests.rows import check_known, kind, read_json, short

BODY_BYTES, BODY_SECONDS = 100_000, 10.0
PATH = "path"


def change_routes(rollout: Rollout) -> APIRouter:
    """Return `/v2/repository`: the index, and loading and unloading of models.

    Args:
        rollout: of the server whose models change.
    """
    router = APIRouter(prefix="/v2/repository", tags=["open inference"])

    @router.post("/index", operation_id="v2_index", summary="The models that are served")
    async def index() -> Response:
        return json_response(_about.index(rollout.service))

    @router.post("/models/{name}/load", operation_id="v2_load", summary="Load a model, or load it again")
    async def load(request: Request, name: str) -> Response:
        """Send `{"parameters": {"path": …}}`, or nothing to load the model again from where it came."""
        parameters = await _parameters(request, (PATH,))
        path = parameters.get(PATH) or rollout.service.shelf.find(name).origin
        if not isinstance(path, str) or not path:
            raise RequestError(
                f"It is not known where '{short(name)}' came from.",
                status=400,
                hint='Send {"parameters": {"path": …}}, a folder on the server or a reference.',
            )
        await rollout.load(name, path)
        return json_response({})

    @router.post("/models/{name}/unload", operation_id="v2_unload", summary="Take a model away")
    async def unload(request: Request, name: str) -> Response:
        await _parameters(request, ("unload_dependents",))
        await rollout.unload(name)
        return json_response({})

    return router


async def _parameters(request: Request, known: tuple[str, ...]) -> dict[str, Any]:
    body = await read_body(request, BODY_BYTES, BODY_SECONDS, lambda _, error: error)
    document = read_json(body) if body.strip() else {}
    parameters = document.get("parameters") if isinstance(document, dict) else document
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(f"'parameters' is {kind(parameters)}.", status=400, allowed="It is an object.")
    check_known(parameters, known, "parameter")
    return parameters
