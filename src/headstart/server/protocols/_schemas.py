"""Errors of protocols that have a form of their own, in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.server import openapi

TEXT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "What is wrong, what is allowed, what to do next."}},
    "required": ["error"],
}
"""An error as clients of the Open Inference Protocol and of TensorFlow Serving read it."""
OPENAI: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string", "description": "What is wrong, what is allowed, what to do next."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
"""An error as OpenAI's clients read it."""
ASKED = (400, 404, 408, 413, 415, 422, 500, 503, 504)
BUSY = "The queue is full. `Retry-After` says when to try again."
MORE = {403: "Not here.", 404: "There is no such model or version.", 429: BUSY, 504: "The client's time was over."}


def errors(form: Mapping[str, Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses for error statuses in a protocol's own form."""
    told = {**openapi.ERRORS, **MORE}
    return {status: {"description": told[status], "content": openapi.content(form)} for status in statuses}


def body(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a route says of the JSON that it reads."""
    return {"requestBody": {"required": True, "content": openapi.content(schema)}}
