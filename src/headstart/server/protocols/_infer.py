"""What asks and answers `infer`, whichever way the Open Inference Protocol carries it: JSON, binary data, gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from fastapi import Request

from headstart.core.errors import RequestError, listed, nearest
from headstart.server.models.served import Served
from headstart.server.protocols import _about, _tensors
from headstart.server.protocols._cells import rows_of, texts_of
from headstart.server.requests.bodies import header
from headstart.server.requests.rows import kind, short
from headstart.server.service import TIMEOUT, Service

IGNORED = ("priority", "timeout", "content_type", "headers", "triton_enable_empty_final_response")
"""Parameters of a request that are no options of a model."""


@final
@dataclass(frozen=True)
class Asked:
    """A request, read.

    Args:
        id: the client's own; empty where it gave none.
        columns: cells by input.
        outputs: those that are wanted, with whether each is to be binary; None: all.
        binary: whether outputs are binary where none are named.
        parameters: of the request.
    """

    id: str
    columns: Mapping[str, Sequence[Any]]
    outputs: Mapping[str, bool] | None
    binary: bool
    parameters: Mapping[str, Any]


def wanted_of(given: Any, binary: bool) -> dict[str, bool] | None:
    """Return the outputs that are wanted, with whether each is to be binary; None where none are named.

    Args:
        given: the request's list of outputs.
        binary: whether they are binary where they do not say.

    Raises:
        RequestError: it cannot be used (status 400).
    """
    if given is None or given == []:
        return None
    if not isinstance(given, list) or not all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in given):
        raise RequestError("'outputs' cannot be read.", status=400, allowed='It is a list of {"name": …}.')
    wanted = {}
    for each in given:
        parameters = each.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise RequestError(f"An output's 'parameters' is {kind(parameters)}.", status=400, allowed="An object.")
        for name in ("classification", "shared_memory_region"):
            if parameters.get(name):
                raise RequestError(f"The output parameter '{name}' is not supported.", status=400, hint="Leave it out.")
        wanted[each["name"]] = parameters.get("binary_data", binary) is True
    return wanted


async def answered(
    service: Service, request: Request, served: Served, asked: Asked
) -> tuple[dict[str, Any], list[tuple[_tensors.Tensor, bool]]]:
    """Return what stands before a response's outputs, and these, each with whether it is to be binary.

    Raises:
        HeadstartError: the request cannot be used, or not be answered; see `Service.answer`.
    """
    service.check_count(len(next(iter(asked.columns.values()))))
    _check_outputs(served, asked.outputs)
    rows = rows_of(asked.columns, served.fields)
    _allow(request, asked.parameters.get("timeout"))
    options = _options(served, asked.parameters)
    beside = asked.outputs is not None and _about.EMBEDDING in asked.outputs and not _own_vectors(served)
    tensors: dict[str, _tensors.Tensor] = {}
    if asked.outputs is None or set(asked.outputs) != {_about.EMBEDDING} or not beside:
        answers = await service.answer(request, served, rows, options)
        tensors = _columns(served, answers)
    if beside:
        vectors = await service.vectors(request, served, texts_of(rows, served.fields))
        tensors[_about.EMBEDDING] = _tensors.Tensor(_about.EMBEDDING, "FP32", vectors.shape, vectors)
    wanted = asked.outputs or dict.fromkeys(tensors, asked.binary)
    head = {"model_name": served.name, "model_version": served.version, **({"id": asked.id} if asked.id else {})}
    return head, [(tensors[name], binary) for name, binary in wanted.items()]


def _own_vectors(served: Served) -> bool:
    return _about.EMBEDDING in served.answer_schema()


def _check_outputs(served: Served, outputs: Mapping[str, bool] | None) -> None:
    known = [each["name"] for each in _about.outputs(served)]
    if served.encoder is not None and _about.EMBEDDING not in known:
        known.append(_about.EMBEDDING)
    for name in outputs or ():
        if name not in known:
            raise RequestError(
                f"The model '{served.name}' has no output '{short(name)}'.",
                status=400,
                allowed=f"Outputs: {listed(known)}.",
                hint=nearest(short(name), known),
            )


def _allow(request: Request, microseconds: Any) -> None:
    """Let the request's own `timeout` hold, unless a header gives one."""
    if microseconds is None or header(request.scope, TIMEOUT) is not None:
        return
    if isinstance(microseconds, bool) or not isinstance(microseconds, int) or microseconds <= 0:
        raise RequestError(
            f"'timeout' is {kind(microseconds) if not isinstance(microseconds, int) else microseconds}.",
            status=400,
            allowed="Microseconds, a whole number above 0.",
        )
    # Where the service looks for it.
    request.scope["headers"] = [*request.scope["headers"], (TIMEOUT, str(microseconds / 1e6).encode())]


def _options(served: Served, parameters: Mapping[str, Any]) -> dict[str, Any]:
    options = {}
    for name, value in parameters.items():
        if name in served.options:
            options[name] = value
        elif name.startswith("sequence_") and value:
            raise RequestError(f"'{name}' is not supported.", status=400, allowed="Each request stands alone.")
        elif name not in IGNORED and name != "binary_data_output" and not name.startswith("sequence_"):
            raise RequestError(
                f"The model '{served.name}' has no parameter '{short(name)}'.",
                status=400,
                allowed=f"Parameters: {listed([*served.options, 'binary_data_output', *IGNORED], 20)}.",
                hint=nearest(short(name), served.options),
            )
    return options


def _columns(served: Served, answers: Sequence[Mapping[str, Any]]) -> dict[str, _tensors.Tensor]:
    schema = served.answer_schema()
    names = list(answers[0]) if answers else list(schema)
    found = {}
    for name in names:
        cells = [each[name] for each in answers]
        if name == _about.EMBEDDING:
            vectors = np.array(cells, np.float32).reshape(len(cells), -1)
            found[name] = _tensors.Tensor(name, "FP32", vectors.shape, vectors)
        else:
            found[name] = _tensors.output(name, schema.get(name, {}), cells)
    return found


def elsewhere(name: str, verb: str) -> RequestError:
    """Return the refusal of a change that is asked on the port of predictions (status 403)."""
    return RequestError(
        f"The model '{short(name)}' is not {verb} here.",
        status=403,
        allowed="What changes the server is asked on its admin port.",
        hint="headstart serve --admin-port N opens it.",
    )
