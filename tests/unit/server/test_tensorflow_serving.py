"""TensorFlow Serving's REST API, which is KServe's v1 protocol, too."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core.errors import HeadstartError
from headstart.server.protocols import _cells
from headstart.server.requests.rows import Fields
from headstart.testing.toys import toy_runtime
from tests.unit.server import writers

RUNTIME = toy_runtime(("subject", "body"))
ROWS = [{"subject": "order", "body": "blue sky"}, {"body": "my order"}]
PATH = "/v1/models/toy"


@pytest.mark.parametrize("path", [PATH, f"{PATH}/versions/1", f"{PATH}/labels/stable"])
def test_rows_are_answered(client, path):
    answer = client.post(f"{path}:predict", json={"instances": ROWS, "signature_name": "serving_default"})
    assert answer.json() == {"predictions": RUNTIME.predict_rows(ROWS)}


@pytest.mark.parametrize("instance", ["blue sky", ["blue sky"], {"body": ["blue sky"]}, {"b64": "Ymx1ZSBza3k="}])
def test_a_row_may_be_its_main_column_alone(client, instance):
    answer = client.post(f"{PATH}:predict", json={"instances": [instance]})
    assert answer.json() == {"predictions": RUNTIME.predict_rows(["blue sky"])}


@pytest.mark.parametrize(
    "inputs",
    [
        {"body": ["blue sky", "my order"]},
        ["blue sky", "my order"],
        {"body": [["blue sky"], ["my order"]]},
        {"body": ["blue sky", "my order"], "subject": ["", None]},
    ],
)
def test_columns_are_answered_with_columns(client, inputs):
    answer = client.post(f"{PATH}:predict", json={"inputs": inputs})
    expected = RUNTIME.predict_rows(["blue sky", "my order"])
    assert answer.json() == {"outputs": {name: [each[name] for each in expected] for name in expected[0]}}


def test_a_model_with_one_answer_column_leaves_its_name_out(serving, tmp_path):
    with serving({"encoder": writers.embedder(tmp_path)}) as client:
        (vector,) = client.post("/v1/models/encoder:predict", json={"instances": ["my order"]}).json()["predictions"]
        assert len(vector) == 32
        assert client.post("/v1/models/encoder:predict", json={"inputs": "my order"}).json() == {"outputs": [vector]}


def test_classes_and_numbers(serving, client):
    expected = RUNTIME.predict_rows(ROWS)
    answer = client.post(f"{PATH}:classify", json={"examples": ROWS})
    assert answer.json() == {"results": [[[each["label"], each["label_confidence"]]] for each in expected]}
    shared = client.post(f"{PATH}:classify", json={"context": {"subject": "order"}, "examples": [{"body": "blue sky"}]})
    assert shared.json()["results"] == answer.json()["results"][:1]
    refused = client.post(f"{PATH}:regress", json={"examples": ROWS})
    assert refused.status_code == 400
    assert "predicts no numbers" in refused.json()["error"]
    with serving({"length": writers.numbers_runtime()}) as other:
        answer = other.post("/v1/models/length:regress", json={"examples": [{"text": "a"}, {"text": "b c"}]})
        assert answer.status_code == 200
        assert all(isinstance(each, float) for each in answer.json()["results"])


def test_the_signature_names_one_of_several_targets(serving):
    with serving({"two": writers.two_colours()}) as client:
        asked = {"examples": [{"text": "blue sky"}]}
        refused = client.post("/v1/models/two:classify", json=asked)
        assert "signature_name is one of 'first', 'second'" in refused.json()["error"]
        answer = client.post("/v1/models/two:classify", json={**asked, "signature_name": "second"})
        assert answer.json()["results"][0][0][0] in ("blue", "green", "red")


def test_files(serving, tmp_path):
    tone = base64.b64encode(writers.sound(0.3)).decode()
    with serving({"listener": writers.listener(tmp_path)}) as client:
        path = "/v1/models/listener:predict"
        for instances in (
            [{"b64": tone}],
            [{"audio": {"b64": tone}}],
            [{"audio": tone}],
            [f"data:audio/wav;base64,{tone}"],
        ):
            (answer,) = client.post(path, json={"instances": instances}).json()["predictions"]
            assert answer["text"] == "hello"
        answer = client.post(path, json={"inputs": {"audio": [{"b64": tone}]}}).json()["outputs"]
        assert answer["text"] == ["hello"]
        broken = client.post(path, json={"instances": [{"b64": "%%%"}]})
        assert (broken.status_code, "not valid base64" in broken.json()["error"]) == (422, True)


@pytest.mark.parametrize(
    ("verb", "body", "words"),
    [
        ("predict", {}, "neither 'instances' nor 'inputs'"),
        ("predict", [], "The body is a list"),
        ("predict", {"instances": [], "inputs": []}, "both 'instances' and 'inputs'"),
        ("predict", {"instances": ["a"], "signature": "x"}, "Did you mean 'signature_name'?"),
        ("predict", {"instances": [["a", "b"]]}, "is a list"),
        ("predict", {"instances": [{"bodi": "a"}]}, "Did you mean 'body'?"),
        ("predict", {"instances": [{"body": {"b64": 3}}]}, "'b64' is a number"),
        ("predict", {"instances": [{"b64": "/w=="}]}, "not UTF-8"),
        ("predict", {"instances": [{}]}, "is blank"),
        ("predict", {"inputs": {"body": ["a"], "subject": ["a", "b"]}}, "differ in length: 'body' 1, 'subject' 2"),
        ("predict", {"inputs": {}}, "differ in length: none"),
        ("predict", {"instances": ["a"] * 10_001}, "10,001 rows"),
        ("classify", {"examples": ["a"]}, "An example is a text"),
        ("classify", {}, "'examples' is not a list"),
        ("classify", {"examples": [], "context": 3}, "'context' no object"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_text(client, verb, body, words):
    answer = client.post(f"{PATH}:{verb}", json=body)
    assert answer.status_code in (400, 413, 422)
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]


def test_no_rows(client):
    assert client.post(f"{PATH}:predict", json={"instances": []}).json() == {"predictions": []}
    columns = client.post(f"{PATH}:predict", json={"inputs": {"body": []}}).json()
    assert columns == {"outputs": {"label": [], "label_confidence": []}}


def test_states(client):
    status = {"error_code": "OK", "error_message": ""}
    told = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": status}]}
    assert client.get(f"{PATH}/versions/1").json() == told
    assert client.get(f"{PATH}/labels/stable").json() == told
    whole = client.get(PATH).json()
    assert whole["model_version_status"] == told["model_version_status"]
    assert (whole["name"], whole["ready"], whole["object"]) == ("toy", True, "model")
    assert client.get("/v1/models").json()["models"] == ["toy"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/models/none:predict", "no model 'none'"),
        ("/v1/models/toy/versions/9", "no version '9'"),
        ("/v1/models/toy/versions/9:predict", "no version '9'"),
        ("/v1/models/toy/labels/canary", "no label 'canary'"),
        ("/v1/models/toy/labels/x:predict", "no label 'x'"),
    ],
)
def test_what_is_not_there(client, path, words):
    answer = client.post(path, json={"instances": ["a"]}) if ":" in path else client.get(path)
    assert answer.status_code == 404
    assert words in answer.json()["error"]


def test_metadata(client):
    told = client.get(f"{PATH}/metadata").json()
    assert told["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["body"]["dtype"] == "DT_STRING"
    assert signature["outputs"]["label_confidence"]["dtype"] == "DT_DOUBLE"
    assert client.get(f"{PATH}/versions/1/metadata").json() == told


FIELDS = Fields(("text", "photo"), ("text",), "text", ("photo",))
CELL = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["b64", "x"]), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["text", "photo", "other"]), CELL, min_size=1))
def test_whatever_cells_come_are_rows_or_refused(row):
    try:
        (read,) = _cells.rows_of({name: [cell] for name, cell in row.items()}, FIELDS)
    except HeadstartError:
        return
    assert set(read) <= {"text", "photo"}
    assert not isinstance(read.get("text"), bytes)
