"""Direct: requests that need nothing of FastAPI go straight to their endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from fastapi import FastAPI, Request, Response
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from headstart.core.errors import HeadstartError
from headstart.server.errors import CLIENT_GONE, Errors

MOST_KNOWN = 2000
"""Paths that are remembered with their routes; more, which only made-up names can be, are looked up again."""


@final
@dataclass(frozen=True, slots=True)
class Found:
    """The route that answers a path.

    Args:
        route: as FastAPI documents it.
        params: the parts of the path that its endpoint is called with.
        given: those, and the request's name where it asks for the request.
        queried: whether a query changes what the endpoint is called with.
    """

    route: APIRoute
    params: Mapping[str, str]
    wants: str | None
    queried: bool


@final
class Direct:
    """Calls the endpoints that ask for nothing but the request and parts of its path; pure ASGI.

    FastAPI tries its routes one by one and solves the dependencies of the one that matches: for a model that answers
    at once, that was the larger part of a request's cost. Which route answers is still what FastAPI's own would say,
    and whatever is not as plain as that goes on to FastAPI.

    Args:
        app: FastAPI's own routing.
        routes: in the order in which FastAPI tries them.
        errors: tells headstart's own errors.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[APIRoute], errors: Errors) -> None:
        self._app, self._routes, self._errors = app, routes, errors
        self._known: dict[tuple[str, str], Found | None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = self.find(scope) if scope["type"] == "http" else None
        if found is None or (found.queried and scope["query_string"]):
            await self._app(scope, receive, send)
            return
        scope["route"], scope["path_params"] = found.route, found.params
        request = Request(scope, receive, send)
        response: Response
        try:
            if found.wants is None:
                response = await found.route.endpoint(**found.params)
            else:
                response = await found.route.endpoint(**{found.wants: request}, **found.params)
        except HeadstartError as error:
            response = self._errors.refusal(scope["path"], error)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_GONE)
        await response(scope, receive, send)

    def find(self, scope: Scope) -> Found | None:
        """Return the route that answers, or None where FastAPI is to say."""
        if scope.get("root_path"):
            return None
        key = scope["method"], scope["path"]
        if key in self._known:
            return self._known[key]
        found = self._matching(scope)
        if len(self._known) < MOST_KNOWN:
            self._known[key] = found
        return found

    def _matching(self, scope: Scope) -> Found | None:
        for route in self._routes:
            match, more = route.matches(scope)
            if match is Match.FULL:
                return _found(route, more["path_params"])
        return None


def _found(route: APIRoute, params: Mapping[str, Any]) -> Found | None:
    """Return a route whose endpoint can be called as it is, or None."""
    needs = route.dependant
    asked = (needs.header_params, needs.cookie_params, needs.body_params, needs.dependencies)
    others = (needs.response_param_name, needs.background_tasks_param_name, needs.http_connection_param_name)
    if any(asked) or any(others) or not all(isinstance(value, str) for value in params.values()):
        return None
    return Found(route, params, needs.request_param_name, bool(needs.query_params))


@final
class App(FastAPI):
    """FastAPI's app, of which only what the routes need stands behind the guard.

    Its other layers answer what nobody caught and bound bodies, which is done here already, and each of them would
    handle every message once more.

    Attributes:
        errors: tells headstart's own errors.
        plain: the routes, in the order in which they are tried.
    """

    errors: Errors
    plain: Sequence[APIRoute]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and do not look for OpenTelemetry each time: `server.tracing` has done it."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Return the routes behind the app's middleware."""
        handlers: Any = self.exception_handlers
        app: ASGIApp = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=handlers)
        app = Direct(app, self.plain, self.errors)
        for cls, args, kwargs in reversed(self.user_middleware):
            app = cls(app, *args, **kwargs)
        return app
