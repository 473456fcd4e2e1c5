"""The OpenAPI document describes this very model, and is valid."""

from __future__ import annotations

import pytest

from headstart.core.protocol import Protocol
from headstart.server.app import create_app
from headstart.testing.toys import toy_runtime


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


def test_it_is_valid(document):
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document)


def test_the_schema_is_the_models_own(document):
    schemas = document["components"]["schemas"]
    row = schemas["Row"]["anyOf"][0]
    assert list(row["properties"]) == ["subject", "body", "text"]
    assert row["additionalProperties"] is False
    answer = schemas["Answer"]
    assert answer["properties"] == toy_runtime().answer_schema()
    assert answer["required"] == ["label", "label_confidence"]


def test_the_example_is_answered_as_shown(client, document):
    predict = document["paths"]["/predict"]["post"]
    asked = predict["requestBody"]["content"]["application/json"]["examples"]
    answered = predict["responses"]["200"]["content"]["application/json"]["examples"]
    for name, example in asked.items():
        assert client.post("/predict", json=example["value"]).json() == answered[name]["value"]


def test_every_reference_leads_somewhere(document):
    def references(value):
        if isinstance(value, dict):
            yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    found = set(references(document))
    assert found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_every_route_says_what_it_refuses(document):
    assert set(document["paths"]) == {"/", "/predict", "/health/live", "/health/ready", "/metrics"}
    assert set(document["paths"]["/predict"]["post"]["responses"]) == {
        "200", "400", "408", "413", "415", "422", "500", "503",
    }  # fmt: skip


def test_another_protocol_is_one_class():
    from fastapi import APIRouter

    class Echo(Protocol):
        def routes(self, service):
            router = APIRouter()

            @router.get("/echo")
            async def echo() -> str:
                return service.name

            return router

    app = create_app(toy_runtime(), name="toy", protocols=[Echo()])
    assert list(app.openapi()["paths"]) == ["/echo"]
