"""Errors as JSON: `{"error": {"message": …, "hint": …}}` or a protocol's own form, and never a traceback."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from headstart.core.errors import HeadstartError, nearest
from headstart.core.protocol import Protocol
from headstart.server.models.shelf import request_id
from headstart.server.queue.batching import Busy
from headstart.server.requests.rows import short

JSON = "application/json"
CLIENT_GONE = 499
"""The status that is counted, and never sent, where the client left before the answer."""

log = logging.getLogger("headstart.server")


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as a JSON response."""
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, dict(headers or {}), media_type=JSON)


def error_response(status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Return an error response in the server's own form."""
    return json_response({"error": {"message": message, "hint": hint}}, status, headers)


@final
class Errors:
    """How errors are told: in the form of the protocol that owns the path, else in the server's own.

    Args:
        protocols: those that are spoken.
    """

    def __init__(self, protocols: Sequence[Protocol] = ()) -> None:
        self._protocols = protocols

    def told(
        self, path: str, status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return an error response for a request to a path."""
        owner = self._owner(path)
        body = owner.error(status, message, hint) if owner else None
        return error_response(status, message, hint, headers) if body is None else json_response(body, status, headers)

    def refusal(self, path: str, error: HeadstartError) -> Response:
        """Return the response for an error that headstart raised on purpose."""
        status, headers = error.status, getattr(error, "headers", None)
        if isinstance(error, Busy):
            owner = self._owner(path)
            status, headers = owner.busy_status if owner else status, {"Retry-After": str(error.retry_after)}
        return self.told(path, status, f"{error.problem} {error.allowed}".strip(), error.hint, headers)

    def internal(self, path: str, error: Exception) -> Response:
        """Log an error that nobody expected, and return the response that names the log's entry."""
        number = uuid.uuid4().hex[:12]
        log.error("Error %s while answering request %s.", number, request_id.get(), exc_info=error)
        message = f"The server failed to answer; this is error {number}."
        return self.told(path, 500, message, "The server's log says more under that number.")

    def answer(self, app: FastAPI) -> None:
        """Let the app answer every error as JSON."""

        async def refused(request: Request, error: Exception) -> Response:
            assert isinstance(error, HeadstartError)
            return self.refusal(request.scope["path"], error)

        async def gone(request: Request, error: Exception) -> Response:
            return Response(status_code=CLIENT_GONE)

        async def invalid(request: Request, error: Exception) -> Response:
            assert isinstance(error, RequestValidationError)
            first = error.errors()[0]
            message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}."
            return self.told(request.scope["path"], 422, message)

        async def http_error(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)
            return self._http_error(app, request, error)

        app.add_exception_handler(HeadstartError, refused)
        app.add_exception_handler(ClientDisconnect, gone)
        app.add_exception_handler(RequestValidationError, invalid)
        app.add_exception_handler(HTTPException, http_error)

    def _owner(self, path: str) -> Protocol | None:
        return next((each for each in self._protocols if each.owns(path)), None)

    def _http_error(self, app: FastAPI, request: Request, error: HTTPException) -> Response:
        routes = {path: [method.upper() for method in methods] for path, methods in app.openapi()["paths"].items()}
        whole = request.scope["path"]
        path = short(whole)
        if error.status_code == 404:
            every = ", ".join(f"{method} {path}" for path, methods in routes.items() for method in methods)
            return self.told(whole, 404, f"There is no '{path}'. Routes: {every}.", nearest(path, routes))
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            message = f"{request.method} is not allowed on '{path}'. Allowed: {allowed}."
            return self.told(whole, 405, message, "See /docs for what each route reads.", error.headers)
        return self.told(whole, error.status_code, str(error.detail), headers=error.headers)
