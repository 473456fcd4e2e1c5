"""The model's own schema in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

if TYPE_CHECKING:
    from headstart.server.app import Service

ROW, ANSWER, ERROR = ({"$ref": f"#/components/schemas/{name}"} for name in ("Row", "Answer", "Error"))

ERRORS = {
    400: "The body is not JSON.",
    408: "The body did not arrive in time.",
    413: "The body or its number of rows is over the limit.",
    415: "The body is compressed.",
    422: "The body is JSON, but not what this model reads.",
    500: "The server failed; its log says more.",
    503: "The queue is full, or the server is starting or stopping. `Retry-After` says when to try again.",
}
ERROR_SCHEMA = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string", "description": "What is wrong, and what is allowed."},
                "hint": {"type": "string", "description": "What to do next; may be empty."},
            },
            "required": ["message", "hint"],
        }
    },
    "required": ["error"],
}


def content(schema: Mapping[str, Any], examples: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return JSON content of a schema, with named examples."""
    shown = {"examples": {name: {"value": value} for name, value in examples.items()}} if examples else {}
    return {"application/json": {"schema": dict(schema), **shown}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses for error statuses."""
    return {status: {"description": ERRORS[status], "content": content(ERROR)} for status in statuses}


def row_schema(service: Service) -> dict[str, Any]:
    """Return JSON Schema for one row: an object of this model's columns, or a bare text."""
    fields = service.fields
    properties = dict(service.runtime.input_schema())
    if fields.alias:
        properties[fields.alias] = {**properties[fields.main], "description": f"Another name for '{fields.main}'."}
    row = {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}
    text = {"type": "string", "description": f"The same as an object with the field '{fields.main}' alone."}
    return {"anyOf": [row, text], "examples": [service.example]}


def answer_schema(service: Service) -> dict[str, Any]:
    """Return JSON Schema for one answer record."""
    properties = service.runtime.answer_schema()
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "examples": [service.example_answer],
    }


def describe(app: FastAPI, service: Service) -> None:
    """Put the schemas that the protocols refer to into the app's OpenAPI document."""
    schemas = app.openapi().setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Row": row_schema(service), "Answer": answer_schema(service), "Error": ERROR_SCHEMA}


def overview(targets: Sequence[str], columns: Sequence[str]) -> str:
    """Return the document's first paragraph."""
    return f"Predicts **{', '.join(targets)}** from {', '.join(columns)}. The page [/](/) needs no network."
