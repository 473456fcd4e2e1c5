"""The clients that people have: each is let loose on a server as it comes, with its own defaults."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading

import httpx2
import numpy as np
import pytest

from headstart.server.limits import Limits
from headstart.server.requests.inputs import Caps
from headstart.server.run import _listen
from headstart.testing.toys import toy_runtime
from tests.journeys.test_main_job import TICKET
from tests.unit.server import writers
from tests.unit.server.conftest import running

TEXTS = ["my order has not arrived", "refund"]
pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")


@pytest.fixture(scope="module")
def admin():
    """Return a port for the admin API."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def served(bundle, admin):
    """Return the address of a real server of a fitted bundle, called `tickets`."""
    command = [sys.executable, "-m", "headstart", "serve", f"tickets={bundle}", "--port", "0", "--json", "--quiet"]
    command += ["--admin-port", str(admin)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = json.loads(process.stdout.readline())["url"]
        yield url
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def toy_server(tmp_path_factory):
    """Return a client of a server of toys: what labels, embeds, writes and listens."""
    root = tmp_path_factory.mktemp("toys")
    models = {
        "colours": toy_runtime(("subject", "body")),
        "tickets": writers.fitted(root / "tickets"),
        "encoder": writers.embedder(root / "encoder"),
        "letters": writers.letters(root / "letters", again=3),
        "talker": writers.talker(root / "talker"),
        "listener": writers.listener(root / "listener"),
    }
    with running(models) as client:
        yield client


@pytest.fixture(scope="module")
def toys(toy_server):
    """Return the server's address."""
    return _address(toy_server)


def _address(client):
    return str(client.base_url).rstrip("/")


# tritonclient


@pytest.fixture
def triton(toys):
    module = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    client = module.InferenceServerClient(toys.removeprefix("http://"), concurrency=8)
    yield module, client
    client.close()


def test_tritonclient_asks_what_is_there(triton):
    _, client = triton
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("colours")
    assert client.is_model_ready("colours", "1") and not client.is_model_ready("none")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    for version in ("", "1"):
        told = client.get_model_metadata("colours", version)
        assert told["inputs"] == [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in ("subject", "body")]
        assert client.get_model_config("colours", version)["name"] == "colours"
    assert client.get_model_repository_index()[0] == {"name": "colours", "version": "1", "state": "READY", "reason": ""}
    assert client.get_inference_statistics()["model_stats"][0]["name"] == "colours"
    assert client.get_inference_statistics("tickets", "1")["model_stats"][0]["version"] == "1"


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_tritonclient_gets_answers_in_every_form(triton, binary, named):
    module, client = triton
    texts = ["blue sky", "grün ist die Hoffnung"]
    given = module.InferInput("body", [2, 1], "BYTES")
    given.set_data_from_numpy(np.array([[text] for text in texts], object), binary_data=binary)
    wanted = [module.InferRequestedOutput(name, binary_data=binary) for name in ("label_confidence", "label")]
    answer = client.infer("colours", [given], outputs=wanted if named else None, request_id="a1", model_version="1")
    expected = toy_runtime(("subject", "body")).predict_rows(texts)
    assert answer.get_response()["id"] == "a1"
    labels = [each.decode() if isinstance(each, bytes) else each for each in answer.as_numpy("label")]
    assert labels == [each["label"] for each in expected]
    confidences = answer.as_numpy("label_confidence")
    assert confidences.dtype == np.float64
    assert confidences.tolist() == [each["label_confidence"] for each in expected]


def test_tritonclient_gets_the_vectors_behind_a_model(triton):
    module, client = triton
    given = module.InferInput("text", [1], "BYTES")
    given.set_data_from_numpy(np.array([b"my order"], object))
    answer = client.infer("tickets", [given], outputs=[module.InferRequestedOutput("embedding")])
    vectors = answer.as_numpy("embedding")
    assert vectors.dtype == np.float32 and vectors.shape == (1, 32)
    assert np.array_equal(client.infer("encoder", [given]).as_numpy("embedding"), vectors)


def test_tritonclient_asks_many_times_at_once(triton):
    module, client = triton
    given = module.InferInput("body", [1], "BYTES")
    given.set_data_from_numpy(np.array([b"blue sky"], object))
    coming = [client.async_infer("colours", [given]) for _ in range(8)]
    assert len({each.get_result().as_numpy("label")[0] for each in coming}) == 1


def test_tritonclient_hears_why(triton):
    module, client = triton
    wrong = module.InferInput("bodi", [1], "BYTES")
    wrong.set_data_from_numpy(np.array([b"x"], object))
    for ask, words in (
        (lambda: client.infer("colours", [wrong]), "Did you mean 'body'?"),
        (lambda: client.infer("none", [wrong]), "There is no model 'none'"),
        (lambda: client.load_model("colours"), "admin port"),
        (lambda: client.unload_model("colours"), "admin port"),
    ):
        with pytest.raises(module.InferenceServerException) as refused:
            ask()
        assert words in str(refused.value)
        assert refused.value.status().startswith("4")


# tritonclient over gRPC


@pytest.fixture(scope="module")
def triton_grpc(toy_server):
    pytest.importorskip("grpc", reason="grpcio is not installed")
    module = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
    from headstart.server.rpc.grpc import Port

    port = Port(toy_server.app, _listen("127.0.0.1", 0), options={}, drain_seconds=5)
    asyncio.run_coroutine_threadsafe(port.open(), toy_server.loop).result(10)
    client = module.InferenceServerClient(port.address)
    yield module, client
    client.close()
    toy_server.loop.call_soon_threadsafe(port.close)


def test_tritonclient_asks_what_is_there_over_grpc(triton_grpc):
    _, client = triton_grpc
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("colours")
    assert client.is_model_ready("colours", "1") and not client.is_model_ready("none")
    assert "statistics" in client.get_server_metadata().extensions
    for version in ("", "1"):
        told = client.get_model_metadata("colours", version, as_json=True)
        assert told["inputs"] == [{"name": name, "datatype": "BYTES", "shape": ["-1"]} for name in ("subject", "body")]
        config = client.get_model_config("colours", version).config
        assert (config.name, config.input[0].dims, config.input[0].data_type) == ("colours", [-1], 13)
    assert client.get_model_repository_index().models[0].state == "READY"
    before = client.get_inference_statistics("tickets", "1").model_stats[0].inference_count
    given = _one(triton_grpc, "text", ["my order"])
    client.infer("tickets", [given])
    assert client.get_inference_statistics("tickets").model_stats[0].inference_count == before + 1
    assert [each.name for each in client.get_inference_statistics().model_stats][:2] == ["colours", "tickets"]


def _one(triton, name, texts):
    module, _ = triton
    given = module.InferInput(name, [len(texts)], "BYTES")
    given.set_data_from_numpy(np.array(texts, object))
    return given


def test_tritonclient_gets_answers_over_grpc(triton_grpc):
    module, client = triton_grpc
    texts = ["blue sky", "grün ist die Hoffnung"]
    wanted = [module.InferRequestedOutput(name) for name in ("label_confidence", "label")]
    expected = toy_runtime(("subject", "body")).predict_rows(texts)
    for outputs in (None, wanted):
        given = [_one(triton_grpc, "body", texts)]
        answer = client.infer("colours", given, outputs=outputs, request_id="a1", model_version="1", timeout=5_000_000)
        assert answer.get_response().id == "a1"
        assert [each.decode() for each in answer.as_numpy("label")] == [each["label"] for each in expected]
        assert answer.as_numpy("label_confidence").tolist() == [each["label_confidence"] for each in expected]
    given = _one(triton_grpc, "text", ["my order"])
    vectors = client.infer("tickets", [given], outputs=[module.InferRequestedOutput("embedding")]).as_numpy("embedding")
    assert vectors.dtype == np.float32 and vectors.shape == (1, 32)
    assert np.array_equal(client.infer("encoder", [given]).as_numpy("embedding"), vectors)
    assert client.infer("letters", [_one(triton_grpc, "text", ["abc"])], parameters={"max_tokens": 5}).as_numpy("text")


def test_tritonclient_asks_many_times_at_once_over_grpc(triton_grpc):
    _, client = triton_grpc
    answers, come = [], threading.Event()

    def note(result, error):
        answers.append(error or result.as_numpy("label")[0])
        if len(answers) == 8:
            come.set()

    for _ in range(8):
        client.async_infer("colours", [_one(triton_grpc, "body", ["blue sky"])], note)
    assert come.wait(30)
    assert set(answers) == {toy_runtime(("subject", "body")).predict_rows(["blue sky"])[0]["label"].encode()}


def test_tritonclient_hears_why_over_grpc(triton_grpc):
    module, client = triton_grpc
    wrong = _one(triton_grpc, "bodi", ["x"])
    for ask, words, code in (
        (lambda: client.infer("colours", [wrong]), "Did you mean 'body'?", "INVALID_ARGUMENT"),
        (lambda: client.infer("none", [wrong]), "There is no model 'none'", "NOT_FOUND"),
        (lambda: client.load_model("colours"), "admin port", "PERMISSION_DENIED"),
        (lambda: client.unload_model("colours"), "admin port", "PERMISSION_DENIED"),
    ):
        with pytest.raises(module.InferenceServerException) as refused:
            ask()
        assert words in str(refused.value)
        assert refused.value.status() == f"StatusCode.{code}"


# openai


@pytest.fixture
def openai(toys):
    module = pytest.importorskip("openai", reason="openai is not installed")
    with module.OpenAI(base_url=f"{toys}/v1", api_key="none", max_retries=0) as client:
        yield module, client


def test_openai_lists_models(openai):
    module, client = openai
    assert [each.id for each in client.models.list()][:2] == ["colours", "tickets"]
    assert client.models.retrieve("tickets").owned_by == "headstart"
    with pytest.raises(module.NotFoundError, match="no model 'none'"):
        client.models.retrieve("none")


def test_openai_embeds_with_its_defaults(openai):
    module, client = openai
    answer = client.embeddings.create(model="tickets", input=TEXTS)
    vectors = np.array([each.embedding for each in answer.data])
    plain = client.embeddings.create(model="tickets", input=TEXTS, encoding_format="float")
    assert np.allclose(vectors, [each.embedding for each in plain.data], atol=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 5 + 2 + 1 + 2
    short = client.embeddings.create(model="tickets", input="my order", dimensions=16).data[0].embedding
    assert len(short) == 16 and np.isclose(np.linalg.norm(short), 1)
    with pytest.raises(module.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="tickets", input=[[1, 2, 3]])


def test_openai_completes_and_streams(openai):
    module, client = openai
    answer = client.completions.create(model="letters", prompt="abc", max_tokens=5)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("abcab", "length")
    pieces = list(client.completions.create(model="letters", prompt="abc", max_tokens=5, stream=True))
    assert "".join(each.choices[0].text for each in pieces) == "abcab"
    with pytest.raises(module.BadRequestError, match="does not write texts"):
        client.completions.create(model="colours", prompt="abc")


def test_openai_chats_and_streams(openai):
    pytest.importorskip("jinja2", reason="jinja2 is not installed")
    module, client = openai
    messages = [{"role": "system", "content": "thanks"}, {"role": "user", "content": "where is my order"}]
    answer = client.chat.completions.create(model="talker", messages=messages, temperature=0, seed=1)
    assert answer.choices[0].message.content == "is my order is my order"
    assert answer.usage.completion_tokens == 6
    stream = client.chat.completions.create(
        model="talker", messages=messages, stream=True, stream_options={"include_usage": True}, max_tokens=3
    )
    *pieces, last = list(stream)
    assert "".join(each.choices[0].delta.content or "" for each in pieces) == "is my order"
    assert pieces[-1].choices[0].finish_reason == "length"
    assert last.usage.completion_tokens == 3
    with pytest.raises(module.BadRequestError, match="'tools' is not supported"):
        client.chat.completions.create(model="talker", messages=messages, tools=[{"type": "function"}])


def test_openai_writes_recordings_down(openai):
    pytest.importorskip("python_multipart", reason="python-multipart is not installed")
    module, client = openai

    def heard(**more):
        return client.audio.transcriptions.create(model="listener", file=("a.wav", writers.sound(0.4)), **more)

    assert heard().text == "hello"
    assert heard(response_format="text") == "hello\n"
    assert heard(response_format="vtt").startswith("WEBVTT")
    verbose = heard(response_format="verbose_json", timestamp_granularities=["word"])
    assert verbose.duration == 0.4 and verbose.words[0].word == "hello"
    with pytest.raises(module.BadRequestError, match="'prompt' is not supported"):
        heard(prompt="names")


def test_openai_comes_again_when_the_server_is_full(tmp_path):
    module = pytest.importorskip("openai", reason="openai is not installed")
    limits = Limits(streams=1, caps=Caps(written_tokens=10**9))
    with running({"letters": writers.letters(tmp_path)}, limits=limits) as served:
        client = module.OpenAI(base_url=f"{_address(served)}/v1", api_key="none", max_retries=0)
        asked = {"model": "letters", "prompt": "abc", "stream": True}
        held = client.completions.create(**asked, max_tokens=10**9)
        next(held)
        with pytest.raises(module.RateLimitError, match="Send the request again"):
            client.completions.create(**asked, max_tokens=2)
        held.close()
        # The server may not have noticed yet; then the client comes again after the seconds that it is told.
        patient = client.with_options(max_retries=5).completions.create(**asked, max_tokens=2)
        assert "".join(each.choices[0].text for each in patient) == "ab"
        client.close()


# KServe's client and the one made from the protocol's own OpenAPI document


@pytest.mark.parametrize("binary", [True, False])
def test_kserve_v2(toys, binary):
    kserve = pytest.importorskip("kserve", reason="kserve is not installed")

    async def ask():
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        assert await client.is_server_live(toys) and await client.is_server_ready(toys)
        assert await client.is_model_ready(toys, "colours")
        given = kserve.InferInput("body", [2], "BYTES")
        given.set_data_from_numpy(np.array(["blue sky", "my order"], object), binary_data=binary)
        request = kserve.InferRequest("colours", [given], request_id="7")
        answer = await client.infer(toys, request, model_name="colours")
        await client.close()
        return answer

    answer = asyncio.run(ask())
    assert answer.id == "7"
    labels = {each.name: each for each in answer.outputs}["label"].as_numpy()
    expected = toy_runtime(("subject", "body")).predict_rows(["blue sky", "my order"])
    assert [each.decode() if isinstance(each, bytes) else each for each in labels] == [e["label"] for e in expected]


def test_kserve_v1(toys):
    kserve = pytest.importorskip("kserve", reason="kserve is not installed")

    async def ask():
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v1"))
        assert await client.is_server_live(toys)
        assert await client.is_model_ready(toys, "colours")
        answer = await client.infer(toys, {"instances": [{"body": "blue sky"}]}, model_name="colours")
        await client.close()
        return answer

    assert asyncio.run(ask())["predictions"] == toy_runtime(("subject", "body")).predict_rows(["blue sky"])


def test_open_inference_openapi(toys):
    client_of = pytest.importorskip("open_inference.openapi.client", reason="open-inference-openapi is not installed")
    types = pytest.importorskip("open_inference.openapi.types")
    with pytest.importorskip("httpx").Client(timeout=60) as inner:
        client = client_of.OpenInferenceClient(base_url=toys, httpx_client=inner)
        client.check_server_liveness()
        client.check_server_readiness()
        client.check_model_readiness("colours")
        client.check_model_version_readiness("colours", "1")
        assert client.read_server_metadata().name == "headstart"
        assert client.read_model_metadata("colours").inputs[1].name == "body"
        assert client.read_model_version_metadata("colours", "1").versions == ["1"]
        data = types.TensorData(__root__=["blue sky"])
        given = types.RequestInput(name="body", shape=[1], datatype="BYTES", data=data)
        answer = client.model_infer("colours", request=types.InferenceRequest(inputs=[given]))
        labels = {each.name: each.data.__root__ for each in answer.outputs}["label"]
        assert labels == [toy_runtime(("subject", "body")).predict_rows(["blue sky"])[0]["label"]]


def test_langchain_embeds(toys):
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    made = {"model": "tickets", "base_url": f"{toys}/v1", "api_key": "none", "max_retries": 0}
    vector = langchain.OpenAIEmbeddings(**made, check_embedding_ctx_length=False).embed_query("my order")
    assert len(vector) == 32


# the whole command, with a fitted bundle


def test_a_real_server_and_its_admin_port(served, admin, bundle):
    module = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    client = module.InferenceServerClient(served.removeprefix("http://"))
    given = module.InferInput("body", [1], "BYTES")
    given.set_data_from_numpy(np.array([TICKET.encode()], object))
    answer = client.infer("tickets", [given])
    assert answer.as_numpy("department")[0] == b"Shipping & Delivery"
    assert answer.as_numpy("department_automated").dtype == bool
    vector = client.infer("tickets", [given], outputs=[module.InferRequestedOutput("embedding")]).as_numpy("embedding")
    told = httpx2.post(f"{served}/v1/embeddings", json={"model": "tickets", "input": TICKET}, timeout=60).json()
    assert np.allclose(told["data"][0]["embedding"], vector[0], atol=1e-3)
    changes = module.InferenceServerClient(f"127.0.0.1:{admin}")
    with pytest.raises(module.InferenceServerException, match="There is no model 'second'"):
        changes.load_model("second")
    with pytest.raises(module.InferenceServerException, match="There is no parameter 'config'"):
        changes.load_model("second", config="{}")
    path = {"parameters": {"path": str(bundle)}}
    load = f"http://127.0.0.1:{admin}/v2/repository/models/second/load"
    assert httpx2.post(load, json=path, timeout=60).json() == {}
    assert client.is_model_ready("second")
    changes.load_model("second")
    assert client.get_model_metadata("second")["versions"] == ["1", "2"]
    assert [each["name"] for each in changes.get_model_repository_index()] == ["tickets", "second", "second"]
    changes.unload_model("second")
    assert not client.is_model_ready("second")
    for each in (client, changes):
        each.close()
