"""The models' own schemas in the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from headstart.server.models.served import Served

if TYPE_CHECKING:
    from headstart.server.service import Service

ERROR = {"$ref": "#/components/schemas/Error"}
ERRORS = {
    400: "The body is not JSON, or a header cannot be used.",
    404: "There is no such model or version.",
    408: "The body did not arrive in time.",
    413: "The body or its number of rows is over the limit.",
    415: "The body is compressed.",
    422: "The body is JSON, but not what this model reads.",
    500: "The server failed; its log says more.",
    503: "The queue is full, or the server is starting or stopping. `Retry-After` says when to try again.",
    504: "The answer was not there within the seconds of `X-Request-Timeout`.",
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
ASKED = (400, 404, 408, 413, 415, 422, 500, 503, 504)
"""What a route that answers rows may refuse them with."""


def content(schema: Mapping[str, Any], examples: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return JSON content of a schema, with named examples."""
    shown = {"examples": {name: {"value": value} for name, value in examples.items()}} if examples else {}
    return {"application/json": {"schema": dict(schema), **shown}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses for error statuses."""
    return {status: {"description": ERRORS[status], "content": content(ERROR)} for status in statuses}


def row_schema(served: Served) -> dict[str, Any]:
    """Return JSON Schema for one row: an object of a model's columns, or a bare text."""
    fields = served.fields
    properties = dict(served.input_schema())
    if fields.alias:
        properties[fields.alias] = {**properties[fields.main], "description": f"Another name for '{fields.main}'."}
    row = {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}
    text = {"type": "string", "description": f"The same as an object with the field '{fields.main}' alone."}
    return {"anyOf": [row, text], "examples": [served.example] if served.example else []}


def answer_schema(served: Served) -> dict[str, Any]:
    """Return JSON Schema for one answer record."""
    properties = served.answer_schema()
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "examples": [served.example_answer] if served.example_answer else [],
    }


def describe(app: FastAPI, service: Service) -> None:
    """Let the app's OpenAPI document describe the models that are served when it is asked for."""
    bare = app.openapi
    made: dict[Any, dict[str, Any]] = {}

    def document() -> dict[str, Any]:
        every = service.shelf.all()
        key = tuple((each.name, each.version) for each in every)
        if key not in made:
            made.clear()
            made[key] = _document(dict(bare()), every, service.limits.rows)
        return made[key]

    app.openapi = document  # type: ignore[method-assign]


def _document(bare: dict[str, Any], every: list[Served], most: int) -> dict[str, Any]:
    components = dict(bare.get("components", {}))
    schemas = dict(components.get("schemas", {})) | {"Error": ERROR_SCHEMA}
    paths: dict[str, Any] = {}
    for path, methods in bare["paths"].items():
        if path == "/predict":
            if len(every) == 1:
                schemas |= {"Row": row_schema(every[0]), "Answer": answer_schema(every[0])}
                paths[path] = {"post": _operation(methods["post"], every[0], "Row", "Answer", most)}
            continue
        paths[path] = methods
    if len(every) > 1:
        for served in every:
            key = re.sub(r"\W", "_", served.name)
            schemas |= {f"Row_{key}": row_schema(served), f"Answer_{key}": answer_schema(served)}
            one = _operation(bare["paths"]["/predict"]["post"], served, f"Row_{key}", f"Answer_{key}", most)
            one |= {"operationId": f"predict_{key}", "summary": f"Answer rows with '{served.name}'"}
            paths[f"/models/{served.name}/predict"] = {"post": one}
    info = dict(bare["info"]) | {"description": overview(every)}
    return bare | {"info": info, "paths": paths, "components": components | {"schemas": schemas}}


def _operation(bare: Mapping[str, Any], served: Served, row_name: str, answer_name: str, most: int) -> dict[str, Any]:
    """Return what `POST …/predict` reads and gives for one model."""
    row, answer = ({"$ref": f"#/components/schemas/{name}"} for name in (row_name, answer_name))
    many = {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": row, "maxItems": most}},
        "required": ["rows"],
        "additionalProperties": False,
    }
    answers = {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": answer}},
        "required": ["predictions"],
    }
    example, answered = served.example, served.example_answer
    asked = content({"anyOf": [row, many]}, {"one row": example, "many rows": {"rows": [example]}})
    given = content({"anyOf": [answer, answers]}, {"one row": answered, "many rows": {"predictions": [answered]}})
    options = [
        {"name": name, "in": "query", "required": False, "schema": {} if usual is None else {"default": usual}}
        for name, usual in served.options.items()
    ]
    found = {"description": "One record, or one for each row in the same order.", "content": given}
    return dict(bare) | {
        "requestBody": {"required": True, "content": asked},
        "parameters": options,
        "responses": {"200": found, **{str(status): told for status, told in errors(*ASKED).items()}},
    }


def overview(every: list[Served]) -> str:
    """Return the document's first paragraph."""
    start = "Predicts" if len(every) == 1 else "* `{}` predicts"
    lines = [
        f"{start.format(each.name)} **{', '.join(each.targets)}** from {', '.join(each.columns)}." for each in every
    ]
    return "\n".join([*lines, "", "The page [/](/) needs no network."])
