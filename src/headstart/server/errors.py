"""Errors as JSON: `{"error": {"message": …, "hint": …}}`, and never a traceback."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from headstart.core.errors import HeadstartError, nearest
from headstart.server.batching import Busy
from headstart.server.rows import short

JSON = "application/json"
CLIENT_GONE = 499
"""The status that is counted, and never sent, where the client left before the answer."""

log = logging.getLogger("headstart.server")


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as a JSON response."""
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, dict(headers or {}), media_type=JSON)


def error_response(status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Return an error response."""
    return json_response({"error": {"message": message, "hint": hint}}, status, headers)


def refusal(error: HeadstartError) -> Response:
    """Return the response for an error that headstart raised on purpose."""
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Busy) else None
    return error_response(error.status, f"{error.problem} {error.allowed}".strip(), error.hint, headers)


def internal_error(error: Exception) -> Response:
    """Log an error that nobody expected, and return the response that names the log's entry."""
    number = uuid.uuid4().hex[:12]
    log.error("Error %s while answering a request.", number, exc_info=error)
    return error_response(
        500,
        f"The server failed to answer; this is error {number}.",
        "The server's log says more under that number.",
    )


def answer_errors(app: FastAPI) -> None:
    """Let the app answer every error as JSON."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HeadstartError)
        return refusal(error)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_GONE)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return error_response(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}.")

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _http_error(app, request, error)

    app.add_exception_handler(HeadstartError, refused)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


def _http_error(app: FastAPI, request: Request, error: HTTPException) -> Response:
    routes = {path: [method.upper() for method in methods] for path, methods in app.openapi()["paths"].items()}
    path = short(request.scope["path"])
    if error.status_code == 404:
        every = ", ".join(f"{method} {path}" for path, methods in routes.items() for method in methods)
        return error_response(404, f"There is no '{path}'. Routes: {every}.", nearest(path, routes))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.method} is not allowed on '{path}'. Allowed: {allowed}."
        return error_response(405, message, "See /docs for what each route reads.", error.headers)
    return error_response(error.status_code, str(error.detail), headers=error.headers)
