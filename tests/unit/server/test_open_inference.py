"""The Open Inference Protocol over HTTP: tensors as JSON and as bytes, and what is told of models."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headstart.core.errors import HeadstartError, RequestError
from headstart.core.protocol import Protocol
from headstart.server.protocols import _tensors
from headstart.server.protocols.open_inference import OpenInference
from headstart.testing.toys import toy_runtime
from tests.unit.server import writers

HEADER = "Inference-Header-Content-Length"
RUNTIME = toy_runtime(("subject", "body"))
ROWS = [{"body": "blue sky"}, {"body": "my order"}]
INPUT = {"name": "body", "shape": [2], "datatype": "BYTES", "data": ["blue sky", "my order"]}


def infer(client, body, path="/v2/models/toy/infer", **more):
    return client.post(path, content=json.dumps(body), **more)


def binary(tensors, **more):
    """Return the body and headers of a request whose tensors (name, shape, datatype, bytes) are binary."""
    inputs = [
        {"name": name, "shape": shape, "datatype": kind, "parameters": {"binary_data_size": len(raw)}}
        for name, shape, kind, raw in tensors
    ]
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + b"".join(raw for *_, raw in tensors), {HEADER: str(len(head))}


def packed(*texts):
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def outputs(answer):
    return {each["name"]: each for each in answer.json()["outputs"]}


def test_rows_are_answered(client):
    answer = infer(client, {"id": "7", "inputs": [INPUT]})
    assert answer.status_code == 200
    expected = RUNTIME.predict_rows(ROWS)
    assert answer.json()["id"] == "7"
    assert answer.json()["model_name"] == "toy"
    assert answer.json()["model_version"] == "1"
    assert outputs(answer)["label"] == {
        "name": "label",
        "shape": [2],
        "datatype": "BYTES",
        "data": [each["label"] for each in expected],
    }
    assert outputs(answer)["label_confidence"]["datatype"] == "FP64"
    assert outputs(answer)["label_confidence"]["data"] == [each["label_confidence"] for each in expected]


def test_there_is_no_id_where_none_was_given(client):
    assert "id" not in infer(client, {"inputs": [INPUT]}).json()


def test_a_version_can_be_named(client):
    assert infer(client, {"inputs": [INPUT]}, "/v2/models/toy/versions/1/infer").status_code == 200
    gone = infer(client, {"inputs": [INPUT]}, "/v2/models/toy/versions/9/infer")
    assert gone.status_code == 404
    assert "no version '9'" in gone.json()["error"]


@pytest.mark.parametrize("shape", [[2], [2, 1], [2, 1, 1]])
@pytest.mark.parametrize("data", [["blue sky", "my order"], [["blue sky"], ["my order"]]])
def test_columns_and_matrices_of_one_column_are_the_same(client, shape, data):
    answer = infer(client, {"inputs": [{**INPUT, "shape": shape, "data": data}]})
    assert outputs(answer)["label"]["data"] == [each["label"] for each in RUNTIME.predict_rows(ROWS)]


def test_no_rows(client):
    answer = infer(client, {"inputs": [{**INPUT, "shape": [0], "data": []}]})
    assert outputs(answer)["label"]["shape"] == [0]
    body, headers = binary([("body", [0], "BYTES", b"")], parameters={"binary_data_output": True})
    assert client.post("/v2/models/toy/infer", content=body, headers=headers).status_code == 200


def test_binary_in_and_out(client):
    body, headers = binary(
        [("body", [2], "BYTES", packed(b"blue sky", "grün".encode()))], parameters={"binary_data_output": True}
    )
    answer = client.post("/v2/models/toy/infer", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    size = int(answer.headers[HEADER])
    told = json.loads(answer.content[:size])["outputs"]
    expected = RUNTIME.predict_rows([{"body": "blue sky"}, {"body": "grün"}])
    labels = packed(*[each["label"].encode() for each in expected])
    assert told[0]["parameters"] == {"binary_data_size": len(labels)}
    assert answer.content[size : size + len(labels)] == labels
    rest = np.frombuffer(answer.content[size + len(labels) :], "<f8")
    assert rest.tolist() == [each["label_confidence"] for each in expected]


def test_outputs_are_chosen_each_in_its_own_form(client):
    wanted = [{"name": "label_confidence", "parameters": {"binary_data": True}}, {"name": "label"}]
    answer = infer(client, {"inputs": [INPUT], "outputs": wanted})
    size = int(answer.headers[HEADER])
    told = json.loads(answer.content[:size])["outputs"]
    assert [each["name"] for each in told] == ["label_confidence", "label"]
    assert len(answer.content) - size == 16
    assert told[1]["data"] == [each["label"] for each in RUNTIME.predict_rows(ROWS)]


@pytest.mark.parametrize(
    ("kind", "values", "cells"),
    [
        ("FP64", np.array([1.5, np.nan], "<f8"), [1.5, None]),
        ("FP32", np.array([1.5, 2], "<f4"), [1.5, 2.0]),
        ("FP16", np.array([1.5, 2], "<f2"), [1.5, 2.0]),
        ("INT64", np.array([-3, 2], "<i8"), [-3, 2]),
        ("UINT8", np.array([3, 2], "u1"), [3, 2]),
        ("BOOL", np.array([1, 0], "?"), [True, False]),
        ("BF16", (np.array([1.5, -2], "<f4").view("<u4") >> 16).astype("<u2"), [1.5, -2.0]),
    ],
)
def test_numbers(kind, values, cells):
    tensor = {"name": "n", "shape": [2], "datatype": kind, "parameters": {"binary_data_size": values.nbytes}}
    assert _tensors.read_inputs([tensor], values.tobytes()) == {"n": cells}
    if kind != "BF16":
        plain = {"name": "n", "shape": [2], "datatype": kind, "data": cells}
        assert _tensors.read_inputs([plain], b"") == {"n": cells}


def test_files(serving, tmp_path):
    tone = writers.sound(0.3)
    with serving({"listener": writers.listener(tmp_path)}) as client:
        body, headers = binary([("audio", [1], "BYTES", packed(tone))], outputs=[{"name": "text"}])
        answer = client.post("/v2/models/listener/infer", content=body, headers=headers)
        assert outputs(answer)["text"]["data"] == ["hello"]
        whole = client.post("/v2/models/listener/infer", content=body.replace(b', "outputs": [{"name": "text"}]', b""))
        assert whole.status_code == 400  # the header is missing
        plain = {"name": "audio", "shape": [1], "datatype": "BYTES", "data": [writers.base64(tone)]}
        answer = infer(client, {"inputs": [plain]}, "/v2/models/listener/infer")
        assert outputs(answer)["text"]["data"] == ["hello"]
        # What is no plain value is JSON.
        assert json.loads(outputs(answer)["segments"]["data"][0])[0]["text"] == "hello"


def test_options_of_a_task_are_parameters(serving, tmp_path):
    with serving({"writer": writers.letters(tmp_path)}) as client:
        prompt = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["abc"]}
        path = "/v2/models/writer/infer"
        answer = infer(client, {"inputs": [prompt], "parameters": {"max_tokens": 5}}, path)
        assert outputs(answer)["text"]["data"] == ["abcab"]
        assert outputs(answer)["tokens"] == {"name": "tokens", "shape": [1], "datatype": "INT64", "data": [5]}
        refused = infer(client, {"inputs": [prompt], "parameters": {"max_token": 5}}, path)
        assert refused.status_code == 400
        assert "Did you mean 'max_tokens'?" in refused.json()["error"]
        refused = infer(client, {"inputs": [prompt], "parameters": {"max_tokens": 4097}}, path)
        assert refused.status_code == 413
        assert "Allowed: 4,096" in refused.json()["error"]
        refused = client.post("/models/writer/predict?max_tokens=4097", json="abc")
        assert refused.status_code == 413 and "--max-tokens" in refused.json()["error"]["hint"]


def test_vectors_are_given_where_they_are_asked_for(serving, tmp_path):
    with serving({"encoder": writers.embedder(tmp_path)}) as client:
        told = client.get("/v2/models/encoder").json()["outputs"]
        assert told == [{"name": "embedding", "datatype": "FP32", "shape": [-1, -1]}]
        texts = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["my order", "refund please"]}
        answer = infer(client, {"inputs": [texts]}, "/v2/models/encoder/infer")
        assert outputs(answer)["embedding"]["shape"] == [2, 32]
        assert len(outputs(answer)["embedding"]["data"]) == 64


def test_vectors_of_a_model_that_labels(serving, tmp_path):
    with serving({"tickets": writers.fitted(tmp_path)}) as client:
        texts = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["my order", "refund please"]}
        path = "/v2/models/tickets/infer"
        asked = {"inputs": [texts], "outputs": [{"name": "embedding"}, {"name": "label"}]}
        answer = infer(client, asked, path)
        assert outputs(answer)["embedding"]["shape"] == [2, 32]
        assert outputs(answer)["embedding"]["datatype"] == "FP32"
        assert len(outputs(answer)["label"]["data"]) == 2
        alone = infer(client, {**asked, "outputs": [{"name": "embedding"}]}, path)
        assert outputs(alone)["embedding"] == outputs(answer)["embedding"]
        assert "embedding" not in outputs(infer(client, {"inputs": [texts]}, path))


REFUSED = [
    ("{", "not JSON"),
    ("[]", "is a list"),
    ({"inputs": []}, "'inputs' is empty"),
    ({"inputs": {}}, "'inputs' is an object"),
    ({}, "'inputs' is null"),
    ({"inputs": [{}]}, "Input 1 has no name"),
    ({"inputs": [INPUT, INPUT]}, "given twice"),
    ({"inputs": [{**INPUT, "datatype": "TEXT"}]}, "'datatype' is 'TEXT'"),
    ({"inputs": [{**INPUT, "datatype": []}]}, "'datatype' is []"),
    ({"inputs": [{**INPUT, "shape": [3]}]}, "has 2 elements"),
    ({"inputs": [{**INPUT, "shape": [1, 2]}]}, "one value in each row"),
    ({"inputs": [{**INPUT, "shape": [-2]}]}, "'shape' is [-2]"),
    ({"inputs": [{**INPUT, "shape": 2}]}, "'shape' is 2"),
    ({"inputs": [{**INPUT, "shape": [True, 2]}]}, "'shape' is"),
    ({"inputs": [{**INPUT, "data": "xy"}]}, "'data' is a text"),
    ({"inputs": [{**INPUT, "data": [1, 2]}]}, "holds 1"),
    ({"inputs": [{**INPUT, "data": [{}, "a"]}]}, "holds {}"),
    ({"inputs": [{"name": "body", "shape": [2], "datatype": "BYTES"}]}, "has no 'data'"),
    ({"inputs": [{**INPUT, "parameters": {"shared_memory_region": "x"}}]}, "shared memory"),
    ({"inputs": [{**INPUT, "parameters": {"binary_data_size": 3}}]}, "0 are there"),
    ({"inputs": [{**INPUT, "parameters": []}]}, "'parameters' is a list"),
    ({"inputs": [{**INPUT, "name": "subjct"}]}, "Did you mean 'subject'?"),
    ({"inputs": [INPUT, {**INPUT, "name": "subject", "shape": [1], "data": ["a"]}]}, "different numbers of rows"),
    ({"inputs": [INPUT], "outputs": [{"name": "lable"}]}, "Did you mean 'label'?"),
    ({"inputs": [INPUT], "outputs": ["label"]}, "'outputs' cannot be read"),
    ({"inputs": [INPUT], "outputs": [{"name": "label", "parameters": {"classification": 3}}]}, "classification"),
    ({"inputs": [INPUT], "outputs": [{"name": "embedding"}]}, "no output 'embedding'"),
    ({"inputs": [INPUT], "parameters": {"sequence_id": 3}}, "stands alone"),
    ({"inputs": [INPUT], "parameters": {"timeout": 0}}, "'timeout' is 0"),
    ({"inputs": [INPUT], "parameters": {"timeout": "1"}}, "'timeout' is a text"),
    ({"inputs": [INPUT], "parameters": 3}, "'parameters' is a number"),
    ({"inputs": [INPUT], "id": 3}, "'id' is a number"),
]


@pytest.mark.parametrize(("body", "words"), REFUSED)
def test_what_cannot_be_read_is_told_in_one_text(client, body, words):
    content = body if isinstance(body, str) else json.dumps(body)
    answer = client.post("/v2/models/toy/infer", content=content)
    assert answer.status_code in (400, 422)
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]


BROKEN = [
    ([("body", [2], "BYTES", packed(b"a"))], {}, "Its shape says 2"),
    ([("body", [1], "BYTES", packed(b"a", b"b"))], {}, "Its shape says 1"),
    ([("body", [1], "BYTES", b"\xff\xff\xff\xffa")], {}, "longer than the data"),
    ([("body", [1], "BYTES", b"\x01\x00")], {}, "within a length"),
    ([("body", [1], "BYTES", packed(b"\xff\xfe"))], {}, "not UTF-8"),
    ([("body", [2], "FP32", b"1234")], {}, "have 8"),
    ([("body", [1], "FP32", struct.pack("<f", math.inf))], {}, "Infinity"),
    ([("body", [1], "BYTES", packed(b"a"))], {HEADER: "99999"}, "0 to"),
    ([("body", [1], "BYTES", packed(b"a"))], {HEADER: "-1"}, "'-1'"),
    ([("body", [1], "BYTES", packed(b"a"))], {HEADER: "x"}, "'x'"),
    ([("body", [1], "BYTES", packed(b"a"))], {HEADER: "10"}, "not JSON"),
]


@pytest.mark.parametrize(("tensors", "headers", "words"), BROKEN)
def test_broken_bytes_are_refused(client, tensors, headers, words):
    body, usual = binary(tensors)
    answer = client.post("/v2/models/toy/infer", content=body, headers={**usual, **headers})
    assert answer.status_code in (400, 422)
    assert words in answer.json()["error"]


def test_bytes_that_belong_to_no_input_are_refused(client):
    body, headers = binary([("body", [1], "BYTES", packed(b"a"))])
    answer = client.post("/v2/models/toy/infer", content=body + b"more", headers=headers)
    assert "4 bytes of binary data belong to no input" in answer.json()["error"]


def test_too_many_rows_are_refused(client):
    texts = {**INPUT, "shape": [10_001], "data": ["a"] * 10_001}
    assert infer(client, {"inputs": [texts]}).status_code == 413


def test_errors_of_the_server_have_the_same_form(client):
    for answer in (
        client.get("/v2/none"),
        client.get("/v2/models/none"),
        client.post("/v2"),
        client.post("/v2/repository/models/toy/load", json={}),
        infer(client, {"inputs": [{**INPUT, "shape": [1], "data": ["\N{SKULL AND CROSSBONES}"]}]}),
    ):
        assert answer.status_code >= 400
        assert isinstance(answer.json()["error"], str)


def test_what_is_told_of_server_and_models(client):
    assert client.get("/v2").json()["name"] == "headstart"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/toy/ready").json() == {"name": "toy", "ready": True}
    told = client.get("/v2/models/toy/versions/1").json()
    assert told["versions"] == ["1"]
    assert told["inputs"] == [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in ("subject", "body")]
    assert [each["datatype"] for each in told["outputs"]] == ["BYTES", "FP64"]
    config = client.get("/v2/models/toy/config").json()
    assert config["input"][0] == {"name": "subject", "data_type": "TYPE_STRING", "dims": [-1]}
    assert client.post("/v2/repository/index", json={"ready": True}).json() == [
        {"name": "toy", "version": "1", "state": "READY", "reason": ""}
    ]


def test_a_model_may_be_called_stats(serving):
    with serving({"stats": toy_runtime()}) as client:
        assert "model_stats" in client.get("/v2/models/stats").json()
        assert client.get("/v2/models/stats/ready").json()["name"] == "stats"


def test_statistics_count_rows_and_time(serving):
    with serving(toy_runtime(("subject", "body"), delay=0.01)) as client:
        infer(client, {"inputs": [INPUT]})
        for path in ("/v2/models/stats", "/v2/models/toy/stats", "/v2/models/toy/versions/1/stats"):
            (told,) = client.get(path).json()["model_stats"]
            assert (told["name"], told["inference_count"], told["execution_count"]) == ("toy", 2, 1)
            assert told["inference_stats"]["success"]["ns"] >= 10_000_000


def test_a_request_may_say_how_long_it_waits(serving):
    with serving(toy_runtime(("subject", "body"), delay=0.5)) as client:
        late = infer(client, {"inputs": [INPUT], "parameters": {"timeout": 20_000}})
        assert late.status_code == 504
        assert infer(client, {"inputs": [INPUT], "parameters": {"timeout": 60_000_000}}).status_code == 200


def test_a_draining_server_is_not_ready(serving):
    with serving(toy_runtime()) as client:
        client.service.draining = True
        for path in ("/v2/health/ready", "/v2/models/toy/ready"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert client.get("/v2/health/live").status_code == 200
        assert client.post("/v2/repository/index").json()[0]["state"] == "UNAVAILABLE"


def test_missing_answers_are_told_as_such():
    numbers = _tensors.output("n", {"type": "integer"}, [1, None])
    assert (numbers.datatype, numbers.data()) == ("FP64", [1, None])
    assert np.isnan(np.frombuffer(numbers.raw(), "<f8")[1])
    assert _tensors.output("t", {"type": "string"}, ["a", None]).data() == ["a", ""]
    assert _tensors.output("t", {"type": "array"}, [["a"], []]).data() == ['["a"]', "[]"]


def test_it_owns_its_paths():
    protocol: Protocol = OpenInference()
    assert protocol.owns("/v2/anything") and protocol.owns("/v2")
    assert not protocol.owns("/v1/models") and not protocol.owns("/v22")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
KIND = st.sampled_from(["BYTES", "BOOL", "FP32", "FP16", "INT8", "UINT64", "BF16"]) | JSON
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
        "datatype": KIND,
        "data": st.lists(st.integers(0, 1) | st.text(max_size=3), max_size=4) | JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 30) | JSON}) | JSON,
    },
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TENSOR, max_size=3) | JSON, st.binary(max_size=40))
def test_whatever_comes_is_read_or_refused(inputs, raw):
    try:
        columns = _tensors.read_inputs(inputs, raw)
    except HeadstartError as error:
        assert error.status == 400
    else:
        assert len({len(cells) for cells in columns.values()}) == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.text(max_size=6) | st.integers(-5, 90).map(str))
def test_whatever_bytes_come_are_split_or_refused(body, header):
    try:
        head, behind = _tensors.split(body, header)
    except RequestError:
        return
    assert head + behind == body


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=6))
def test_texts_come_back_as_they_were(texts):
    raw = packed(*texts)
    tensor = {"name": "a", "shape": [len(texts)], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    assert _tensors.read_inputs([tensor], raw) == {"a": texts}


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(set(_tensors.KINDS) - {"BF16", "BOOL"})).flatmap(
        lambda kind: st.tuples(
            st.just(kind),
            arrays(_tensors.KINDS[kind], st.integers(0, 6), elements={"allow_infinity": False, "allow_nan": False})
            if kind.startswith("FP")
            else arrays(_tensors.KINDS[kind], st.integers(0, 6)),
        )
    )
)
def test_numbers_come_back_as_they_were(case):
    kind, values = case
    raw = _tensors.Tensor("a", kind, values.shape, values).raw()
    tensor = {"name": "a", "shape": [len(values)], "datatype": kind, "parameters": {"binary_data_size": len(raw)}}
    assert _tensors.read_inputs([tensor], raw) == {"a": values.tolist()}
    assert _tensors.Tensor("a", kind, values.shape, values.tolist()).raw() == raw
