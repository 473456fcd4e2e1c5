"""What the Open Inference Protocol tells of a server and its models: metadata, configuration, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.core import VERSION
from headstart.server.models.served import Served
from headstart.server.protocols._tensors import datatype_of
from headstart.server.service import Service

PLATFORM = "headstart"
EMBEDDING = "embedding"
"""The output that holds vectors, FP32 [n, width]."""
SERVER = {
    "name": PLATFORM,
    "version": VERSION,
    "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"],
}
STRING = "BYTES"


def inputs(served: Served) -> list[dict[str, Any]]:
    """Return a model's inputs: one [n] for each column."""
    return [
        {"name": name, "datatype": datatype_of(schema), "shape": [-1]} for name, schema in served.input_schema().items()
    ]


def outputs(served: Served) -> list[dict[str, Any]]:
    """Return a model's outputs: one [n] for each answer column, and [n, width] for vectors."""
    found = []
    for name, schema in served.answer_schema().items():
        if name == EMBEDDING:
            found.append({"name": name, "datatype": "FP32", "shape": [-1, -1]})
        else:
            found.append({"name": name, "datatype": datatype_of(schema), "shape": [-1]})
    return found


def metadata(served: Served, versions: Sequence[str]) -> dict[str, Any]:
    """Return a model's metadata."""
    return {
        "name": served.name,
        "versions": list(versions) or [served.version],
        "platform": PLATFORM,
        "inputs": inputs(served),
        "outputs": outputs(served),
    }


def config(served: Served) -> dict[str, Any]:
    """Return a model's configuration as Triton writes it; 0 as the batch size says that shapes are whole."""

    def told(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "name": each["name"],
                "data_type": "TYPE_STRING" if each["datatype"] == STRING else f"TYPE_{each['datatype']}",
                "dims": each["shape"],
            }
            for each in tensors
        ]

    return {
        "name": served.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": 0,
        "input": told(inputs(served)),
        "output": told(outputs(served)),
        "dynamic_batching": {},
    }


def index(service: Service) -> list[dict[str, str]]:
    """Return all versions of all models, with the state of each."""
    state = "READY" if service.ready else "UNAVAILABLE"
    reason = "" if service.ready else "the server is stopping"
    return [
        {"name": name, "version": version, "state": state, "reason": reason}
        for name in service.shelf.names()
        for version in service.shelf.versions(name)
    ]


def statistics(service: Service, name: str = "", version: str = "") -> dict[str, Any]:
    """Return what was measured of all models, of one, or of one of its versions.

    Raises:
        RequestError: there is none (status 404).
    """
    shelf = service.shelf
    if version:
        found = [shelf.find(name, version)]
    else:
        found = [served for each in ([name] if name else shelf.names()) for served in shelf.versions(each).values()]
    return {"model_stats": [_measured(service, served) for served in found]}


def _measured(service: Service, served: Served) -> dict[str, Any]:
    """Return what was measured of a version since it was opened: requests, rows, seconds in all and in the queue."""

    def measured(name: str, **labels: str) -> float:
        return service.metrics.registry.get_sample_value(f"headstart_{name}", labels) or 0.0

    model, version = served.name, served.version
    requests = int(measured("answer_seconds_count", model=model, version=version))
    whole = measured("answer_seconds_sum", model=model, version=version)
    waited = measured("queue_wait_seconds_sum", model=model)
    waits = int(measured("queue_wait_seconds_count", model=model))
    none = {"count": requests, "ns": 0}
    return {
        "name": model,
        "version": version,
        "inference_count": int(measured("rows_total", model=model, version=version)),
        "execution_count": requests,
        "inference_stats": {
            "success": {"count": requests, "ns": _nanoseconds(whole)},
            "queue": {"count": waits, "ns": _nanoseconds(waited)},
            "compute_input": none,
            "compute_infer": {"count": requests, "ns": _nanoseconds(max(whole - waited, 0.0))},
            "compute_output": none,
        },
        "batch_stats": [],
    }


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
