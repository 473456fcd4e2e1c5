"""The OpenAPI document describes this very model, and is valid."""

from __future__ import annotations

import pytest

from headstart.core.protocol import Protocol
from headstart.server.app import create_app
from headstart.server.protocols.native import Native
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
    own = {path for path in document["paths"] if not path.startswith("/v")}
    assert own >= {"/", "/predict", "/models", "/models/{name}", "/health/live", "/health/ready", "/metrics"}
    assert own >= {"/models/{name}/predict", "/models/{name}/versions/{version}/predict"}
    assert set(document["paths"]["/predict"]["post"]["responses"]) == {
        "200", "400", "404", "408", "413", "415", "422", "500", "503", "504",
    }  # fmt: skip


def test_several_models_have_a_route_and_a_schema_each():
    models = {"one": toy_runtime(), "two words": toy_runtime(("subject", "body"))}
    document = create_app(models, protocols=[Native()]).openapi()
    assert "/predict" not in document["paths"]
    for name, columns in (("one", ["text"]), ("two words", ["subject", "body", "text"])):
        post = document["paths"][f"/models/{name}/predict"]["post"]
        asked = post["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0]["$ref"]
        row = document["components"]["schemas"][asked.rpartition("/")[2]]
        assert list(row["anyOf"][0]["properties"]) == columns
    pytest.importorskip("openapi_spec_validator").validate(document)


def test_another_protocol_is_one_class():
    from fastapi import APIRouter

    class Echo(Protocol):
        def routes(self, service):
            router = APIRouter()

            @router.get("/echo")
            async def echo() -> str:
                return service.shelf.find().name

            return router

    app = create_app(toy_runtime(), name="toy", protocols=[Echo()])
    assert list(app.openapi()["paths"]) == ["/echo"]
