"""TensorFlow Serving's REST API, which is KServe's v1 protocol too: rows or columns in, predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from fastapi import APIRouter, Request, Response

from headstart.core.errors import RequestError, listed
from headstart.core.protocol import Protocol
from headstart.server.errors import json_response
from headstart.server.models.served import Served
from headstart.server.protocols import _models, _schemas
from headstart.server.protocols._cells import B64, cell_of, rows_of
from headstart.server.protocols._tensors import datatype_of
from headstart.server.queue.work import Row
from headstart.server.requests.rows import Fields, check_known, kind, read_json, short
from headstart.server.service import Service

TYPES = {"BYTES": "DT_STRING", "FP64": "DT_DOUBLE", "FP32": "DT_FLOAT", "INT64": "DT_INT64", "BOOL": "DT_BOOL"}
LABELS = ("stable", "canary")
"""What may stand for a version: the live one, and the one that is being tried."""
CONFIDENCE = "_confidence"


@final
class TensorflowServing(Protocol):
    """`/v1/models/NAME:predict`, `:classify` and `:regress`, with versions and labels, status and metadata."""

    def routes(self, service: Service) -> APIRouter:
        """Return the routes."""
        router = APIRouter(tags=["tensorflow serving, kserve v1"])
        _ask_routes(router, service)
        _tell_routes(router, service)
        # OpenAI's protocol has the same two, and shows them in the schema; without it they are answered here.
        _models.add_routes(router, service, shown=False)
        return router

    def owns(self, path: str) -> bool:
        """Return whether a path is one of this protocol alone."""
        return _models.is_tensorflow(path)

    def error(self, status: int, message: str, hint: str) -> Any:
        """Return an error as its clients read it: one text."""
        return {"error": f"{message} {hint}".strip()}


def _ask_routes(router: APIRouter, service: Service) -> None:
    rows = {"type": "array", "items": {}}
    shapes = {
        "predict": {"type": "object", "properties": {"instances": rows, "inputs": {}, "signature_name": {}}},
        "classify": {"type": "object", "properties": {"examples": rows, "context": {}}, "required": ["examples"]},
        "regress": {"type": "object", "properties": {"examples": rows, "context": {}}, "required": ["examples"]},
    }
    verbs = {"predict": _predicted, "classify": _classified, "regress": _regressed}
    for verb, answer in verbs.items():
        _ask_route(router, service, verb, answer, shapes[verb])


def _ask_route(router: APIRouter, service: Service, verb: str, answer: Any, shape: dict[str, Any]) -> None:
    @router.post(
        f"/v1/models/{{name}}:{verb}",
        operation_id=f"v1_{verb}",
        summary=f"Answer rows ({verb})",
        openapi_extra=_schemas.body(shape),
        responses=_schemas.errors(_schemas.TEXT, *_schemas.ASKED),
    )
    @router.post(f"/v1/models/{{name}}/versions/{{version}}:{verb}", include_in_schema=False)
    @router.post(f"/v1/models/{{name}}/labels/{{label}}:{verb}", include_in_schema=False)
    async def ask(request: Request, name: str, version: str = "", label: str = "") -> Response:
        served = _found(service, name, version, label)
        document = read_json(await service.body(request))
        if not isinstance(document, dict):
            raise _bad(f"The body is {kind(document)}.", "It is a JSON object.")
        return json_response(await answer(service, request, served, document))


def _tell_routes(router: APIRouter, service: Service) -> None:
    def told(name: str, version: str, label: str) -> Response:
        number = _found(service, name, version, label).version
        return json_response({"model_version_status": _models.statuses(service, name, number)})

    @router.get(
        "/v1/models/{name}/versions/{version}",
        operation_id="v1_version",
        summary="A version's state",
        responses=_schemas.errors(_schemas.TEXT, 404),
    )
    async def by_version(name: str, version: str) -> Response:
        return told(name, version, "")

    @router.get("/v1/models/{name}/labels/{label}", include_in_schema=False)
    async def by_label(name: str, label: str) -> Response:
        return told(name, "", label)

    @router.get(
        "/v1/models/{name}/metadata",
        operation_id="v1_metadata",
        summary="A model's inputs and outputs",
        responses=_schemas.errors(_schemas.TEXT, 404),
    )
    @router.get("/v1/models/{name}/versions/{version}/metadata", include_in_schema=False)
    @router.get("/v1/models/{name}/labels/{label}/metadata", include_in_schema=False)
    async def metadata(name: str, version: str = "", label: str = "") -> Response:
        return json_response(_metadata(_found(service, name, version, label)))


def _found(service: Service, name: str, version: str, label: str) -> Served:
    if not label:
        return service.shelf.find(name, version)
    entry = service.shelf.entry(name)
    number = {"stable": entry.live, "canary": entry.canary}.get(label, "")
    if not number:
        have = [each for each in LABELS if each != "canary" or entry.canary]
        raise RequestError(
            f"The model '{short(name)}' has no label '{short(label)}'.", status=404, allowed=f"Labels: {listed(have)}."
        )
    return entry.versions[number]


async def _predicted(service: Service, request: Request, served: Served, document: Mapping[str, Any]) -> dict[str, Any]:
    if ("instances" in document) == ("inputs" in document):
        both = "both 'instances' and 'inputs'" if "inputs" in document else "neither 'instances' nor 'inputs'"
        raise _bad(f"The body has {both}.", "'instances' are rows, 'inputs' are columns; one of them.")
    check_known(document, ("instances", "inputs", "signature_name"))
    rowwise = "instances" in document
    rows = (_rows if rowwise else _columns)(service, document["instances" if rowwise else "inputs"], served.fields)
    answers = await service.answer(request, served, rows)
    names = list(answers[0]) if answers else list(served.answer_schema())
    if rowwise:
        return {"predictions": [each[names[0]] for each in answers] if len(names) == 1 else answers}
    columns = {name: [each[name] for each in answers] for name in names}
    return {"outputs": columns[names[0]] if len(names) == 1 else columns}


def _rows(service: Service, given: Any, fields: Fields) -> list[Row]:
    values = given if isinstance(given, list) else [given]
    service.check_count(len(values))
    rows = []
    for number, value in enumerate(values, start=1):
        named = value if isinstance(value, dict) and set(value) != {B64} else {fields.main: value}
        rows.append({name: _cell(cell, name, fields, f"Instance {number}") for name, cell in named.items()})
    return fields.rows(rows)


def _columns(service: Service, given: Any, fields: Fields) -> list[Row]:
    columns = given if isinstance(given, dict) and set(given) != {B64} else {fields.main: given}
    cells = {name: values if isinstance(values, list) else [values] for name, values in columns.items()}
    counts = {name: len(values) for name, values in cells.items()}
    if len(set(counts.values())) != 1:
        shown = ", ".join(f"'{short(name)}' {count}" for name, count in counts.items()) or "none"
        raise _bad(f"The columns of 'inputs' differ in length: {shown}.", "Each has one value for each row.")
    service.check_count(next(iter(counts.values())))
    return rows_of({name: [_single(value) for value in values] for name, values in cells.items()}, fields)


def _cell(cell: Any, name: str, fields: Fields, where: str) -> Any:
    return cell_of(_single(cell), name in fields.files, f"{where}: '{short(name)}'")


def _single(cell: Any) -> Any:
    """Return what a list of one holds: tensors of shape [n, 1] are columns, too."""
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell


async def _classified(service: Service, request: Request, served: Served, document: Mapping[str, Any]) -> Any:
    schema = served.answer_schema()
    targets = [name.removesuffix(CONFIDENCE) for name in schema if name.endswith(CONFIDENCE)]
    targets = [name for name in targets if schema.get(name, {}).get("type") == "string"]
    target = _target(served, targets, document, "classes", "classify")
    answers = await service.answer(request, served, _examples(service, served, document))
    return {"results": [[[each[target], each[target + CONFIDENCE]]] for each in answers]}


async def _regressed(service: Service, request: Request, served: Served, document: Mapping[str, Any]) -> Any:
    schema = served.answer_schema()
    targets = [name for name in served.targets if schema.get(name, {}).get("type") in ("number", "integer")]
    target = _target(served, targets, document, "numbers", "regress")
    answers = await service.answer(request, served, _examples(service, served, document))
    return {"results": [each[target] for each in answers]}


def _examples(service: Service, served: Served, document: Mapping[str, Any]) -> list[Row]:
    check_known(document, ("examples", "context", "signature_name"))
    context, examples = document.get("context") or {}, document.get("examples")
    if not isinstance(examples, list) or not isinstance(context, dict):
        raise _bad("'examples' is not a list of objects, or 'context' no object.", '{"examples": [{"field": value}]}')
    plain = [each for each in examples if not isinstance(each, dict)]
    if plain:
        raise _bad(f"An example is {kind(plain[0])}.", "It is an object of fields.")
    return _rows(service, [{**context, **each} for each in examples], served.fields)


def _target(served: Served, targets: Sequence[str], document: Mapping[str, Any], what: str, verb: str) -> str:
    """Return the target that is asked for: the one that the signature names, or the only one."""
    signature = document.get("signature_name")
    if signature in targets:
        return str(signature)
    if len(targets) == 1:
        return targets[0]
    if not targets:
        raise _bad(f"The model '{served.name}' predicts no {what}.", f":{verb} is for models that do; try :predict.")
    raise _bad(f"The model '{served.name}' predicts several {what}.", f"signature_name is one of {listed(targets)}.")


def _metadata(served: Served) -> dict[str, Any]:
    def told(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
        return {
            name: {"dtype": TYPES[datatype_of(schema)], "tensor_shape": shape, "name": f"{name}:0"}
            for name, schema in schemas.items()
        }

    signature = {
        "inputs": told(served.input_schema()),
        "outputs": told(served.answer_schema()),
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": served.name, "signature_name": "", "version": served.version},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


def _bad(problem: str, allowed: str) -> RequestError:
    return RequestError(problem, status=400, allowed=allowed)
