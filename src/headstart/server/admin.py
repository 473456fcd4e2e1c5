"""The admin API: what is served is changed here, on a port of its own."""

from __future__ import annotations

from typing import Any, final

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headstart.core import VERSION
from headstart.core.errors import BundleError, HubError, MissingExtra, RequestError, listed
from headstart.server.errors import Errors, error_response, json_response
from headstart.server.models.rollout import Rollout
from headstart.server.protocols._repository import change_routes
from headstart.server.protocols.open_inference import OpenInference
from headstart.server.requests.bodies import read_body
from headstart.server.requests.rows import check_known, kind, read_json

BODY_BYTES, BODY_SECONDS = 100_000, 10.0


def create_admin(rollout: Rollout) -> FastAPI:
    """Return the app that changes what another app serves: `GET /models`, and `POST /models/{name}/load` and so on."""
    app = FastAPI(title="headstart admin", version=VERSION, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(_routes(rollout))
    app.include_router(change_routes(rollout))
    Errors([OpenInference()]).answer(app)
    app.add_middleware(_NoBrowsers)
    return app


@final
class _NoBrowsers:
    """Refuses what a web page sends: whoever looks at one must not change, unknowingly, what his machine serves."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"]):
            refused = error_response(403, "The admin API answers no web pages.", "Use headstart rollout.")
            await refused(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _routes(rollout: Rollout) -> APIRouter:
    router = APIRouter(tags=["admin"])

    @router.get("/models", operation_id="status", summary="All models, their versions and parts")
    async def status() -> Response:
        """List them."""
        return json_response({"models": rollout.status()})

    @router.post("/models/{name}/load", operation_id="load", summary="Load a version")
    async def load(request: Request, name: str) -> Response:
        """Send `{"path": …}`; with `"weight": 0.1` it is a canary, with `"shadow": true` a shadow."""
        given = await _given(request, ("path", "weight", "shadow"))
        path, weight, shadow = given.get("path"), given.get("weight"), given.get("shadow", False)
        if not isinstance(path, str) or not path:
            raise RequestError(
                f"'path' is {kind(path)}." if "path" in given else "There is no 'path'.",
                allowed="A bundle's folder on the server, or a model's reference.",
            )
        if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float))):
            raise RequestError(f"'weight' is {kind(weight)}.", allowed="A share above 0, and 1 at the most.")
        if not isinstance(shadow, bool) or (shadow and weight is not None):
            raise RequestError("'shadow' is true or false, and a shadow has no 'weight'.")
        role = "shadow" if shadow else "live" if weight is None else "canary"
        try:
            served = await rollout.load(name, path, role=role, weight=weight or 0.0)
        except (BundleError, HubError, MissingExtra) as error:
            # It is what was sent that cannot be used; the server is well.
            raise RequestError(error.problem, allowed=error.allowed, hint=error.hint) from error
        return json_response({"name": name, "version": served.version, "role": role})

    @router.post("/models/{name}/promote", operation_id="promote", summary="Let canary or shadow take over")
    async def promote(name: str) -> Response:
        """Answer all requests with it from now on."""
        await rollout.promote(name)
        return json_response({"name": name, "live": rollout.service.shelf.entry(name).live})

    @router.post("/models/{name}/rollback", operation_id="rollback", summary="Go back")
    async def rollback(name: str) -> Response:
        """Take canary and shadow away; where there are none, let the version before answer again."""
        await rollout.rollback(name)
        return json_response({"name": name, "live": rollout.service.shelf.entry(name).live})

    @router.post("/models/{name}/unload", operation_id="unload", summary="Take a model or a version away")
    async def unload(request: Request, name: str) -> Response:
        """Send nothing for the whole model, or `{"version": "2"}`."""
        given = await _given(request, ("version",))
        await rollout.unload(name, str(given.get("version", "")))
        return json_response({"name": name, "unloaded": given.get("version", "all versions")})

    return router


async def _given(request: Request, known: tuple[str, ...]) -> dict[str, Any]:
    body = await read_body(request, BODY_BYTES, BODY_SECONDS, lambda _, error: error)
    given = read_json(body) if body.strip() else {}
    if not isinstance(given, dict):
        raise RequestError(f"The body is {kind(given)}.", allowed=f"An object with {listed(known)}.")
    check_known(given, known)
    return given
