"""The Open Inference Protocol over gRPC: the same answers, refusals, limits and keys as over HTTP."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import math
import subprocess
import sys
import time

import httpx2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core.errors import RequestError, ResourceError
from headstart.core.ledger import Prediction
from headstart.ledgers import open_ledger
from headstart.server.limits import Limits
from headstart.server.protection.protected import Protection, keeping, protected
from headstart.server.protocols._tensors import BYTES, KINDS
from headstart.server.queue.work import Budget
from headstart.server.run import _listen
from headstart.stages.keys import add_key
from headstart.testing.toys import POISON, toy_runtime
from tests.unit.server.conftest import held, running
from tests.unit.server.test_open_inference import packed
from tests.unit.server.test_serve import ended, process

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from headstart.server.rpc import calls, messages  # noqa: E402
from headstart.server.rpc.grpc import Port  # noqa: E402

RPCS = messages.rpcs()
RUNTIME = toy_runtime(("subject", "body"))
TEXTS = ["blue sky", "my order"]
INFER = f"/{calls.INFERENCE}/ModelInfer"
CODE = grpc.StatusCode


def asked(texts=TEXTS, *, raw=False, name="body", model="toy", **more):
    """Return a request for the answers to texts."""
    message = RPCS[calls.INFERENCE]["ModelInfer"].request(model_name=model, **more)
    one = message.inputs.add(name=name, datatype=BYTES, shape=[len(texts)])
    if raw:
        message.raw_input_contents.append(packed(*(text.encode() for text in texts)))
    else:
        one.contents.bytes_contents.extend(text.encode() for text in texts)
    return message


class Dialled:
    """A client of one port."""

    def __init__(self, channel, address="") -> None:
        self.channel, self.address = channel, address

    def call(self, name, message=None, *, service=calls.INFERENCE, **more):
        return self.coming(name, message, service=service, **more).result()

    def coming(self, name, message=None, *, service=calls.INFERENCE, timeout=20, **more):
        rpc = RPCS[service][name]
        ask = self.channel.unary_unary(f"/{service}/{name}", None, rpc.answer.FromString)
        body = message if isinstance(message, bytes) else (message or rpc.request()).SerializeToString()
        return ask.future(body, timeout=timeout, **more)


@contextlib.contextmanager
def dialled(client, *, guard=(), options=None, credentials=None, host="127.0.0.1"):
    """Open a port beside a server and yield a client of it."""
    port = Port(client.app, _listen(host, 0), guard=guard, options=options or {}, drain_seconds=5)
    asyncio.run_coroutine_threadsafe(port.open(), client.loop).result(10)
    large = [("grpc.max_receive_message_length", -1)]
    if credentials is None:
        channel = grpc.insecure_channel(port.address, large)
    else:
        channel = grpc.secure_channel(f"localhost:{port.address.rpartition(':')[2]}", credentials, large)
    try:
        with channel:
            yield Dialled(channel, port.address)
    finally:
        client.loop.call_soon_threadsafe(port.close)
        until(lambda: port.closed)


@pytest.fixture(scope="module")
def toy(client):
    with dialled(client) as found:
        yield found


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    assert true()


def refused(call, code, *words):
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert error.value.code() is code, error.value.details()
    for each in words:
        assert each in error.value.details()
    return dict(error.value.trailing_metadata() or ())


def test_names_and_numbers_are_the_public_ones():
    public = pytest.importorskip("tritonclient.grpc.service_pb2", reason="tritonclient is not installed")
    own = RPCS[calls.INFERENCE]["ModelInfer"].request.DESCRIPTOR.file
    pool = public.DESCRIPTOR.pool

    def check(message):
        theirs = pool.FindMessageTypeByName(message.full_name)
        for field in message.fields:
            other = theirs.fields_by_name[field.name]
            assert (other.number, other.type, other.is_repeated) == (field.number, field.type, field.is_repeated)
            assert bool(other.containing_oneof) is bool(field.containing_oneof)
            for kind in ("message_type", "enum_type"):
                told = getattr(field, kind)
                assert told is None or getattr(other, kind).full_name == told.full_name
        for inner in message.nested_types:
            check(inner)

    for message in own.message_types_by_name.values():
        check(message)
    theirs = pool.FindEnumTypeByName("inference.DataType").values_by_name
    for name, value in own.enum_types_by_name["DataType"].values_by_name.items():
        assert theirs[name].number == value.number
    for name, rpc in RPCS[calls.INFERENCE].items():
        public_rpc = pool.FindServiceByName(calls.INFERENCE).methods_by_name[name]
        assert public_rpc.input_type.full_name == rpc.request.DESCRIPTOR.full_name
        assert public_rpc.output_type.full_name == rpc.answer.DESCRIPTOR.full_name


def test_a_description_that_is_not_understood_is_told():
    with pytest.raises(ValueError, match="'optional string a = 1;' is not understood"):
        messages.described('syntax = "proto3"; message A { optional string a = 1; }', "a.proto")


@pytest.mark.parametrize("raw", [False, True])
def test_rows_are_answered_in_the_form_in_which_they_come(toy, raw):
    answer = toy.call("ModelInfer", asked(raw=raw, id="7", model_version="1"))
    expected = RUNTIME.predict_rows([{"body": text} for text in TEXTS])
    assert (answer.model_name, answer.model_version, answer.id) == ("toy", "1", "7")
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.outputs] == [
        ("label", "BYTES", [2]),
        ("label_confidence", "FP64", [2]),
    ]
    labels, confidences = [each["label"].encode() for each in expected], [e["label_confidence"] for e in expected]
    if raw:
        first, second = answer.raw_output_contents
        assert first == packed(*labels)
        assert np.frombuffer(second, "<f8").tolist() == confidences
        assert not any(each.HasField("contents") for each in answer.outputs)
    else:
        assert list(answer.outputs[0].contents.bytes_contents) == labels
        assert list(answer.outputs[1].contents.fp64_contents) == confidences
        assert not answer.raw_output_contents


def test_the_outputs_that_are_named_come_in_their_order(toy):
    message = asked()
    for name in ("label_confidence", "label"):
        message.outputs.add(name=name)
    assert [each.name for each in toy.call("ModelInfer", message).outputs] == ["label_confidence", "label"]


def test_a_large_request(toy):
    texts = [f"text {each} " * 20 for each in range(2000)]
    for raw in (False, True):
        answer = toy.call("ModelInfer", asked(texts, raw=raw))
        expected = [each["label"].encode() for each in RUNTIME.predict_rows([{"body": text} for text in texts])]
        assert (answer.raw_output_contents[0] if raw else list(answer.outputs[0].contents.bytes_contents)) == (
            packed(*expected) if raw else expected
        )


@pytest.mark.parametrize("datatype", [*KINDS, BYTES])
def test_contents_and_bytes_are_read_alike(datatype):
    values = {"BOOL": [True, False], BYTES: [b"a", b"b"]}.get(datatype, [1, 3])
    forms = []
    for raw in (True, False):
        message = RPCS[calls.INFERENCE]["ModelInfer"].request(model_name="toy")
        one = message.inputs.add(name="x", datatype=datatype, shape=[2])
        if raw:
            array = np.array(values, "<f4") if datatype == "BF16" else np.array(values, KINDS.get(datatype, object))
            shifted = (array.view("<u4") >> 16).astype("<u2") if datatype == "BF16" else array
            message.raw_input_contents.append(packed(*values) if datatype == BYTES else shifted.tobytes())
        elif datatype in calls.CONTENTS:
            getattr(one.contents, calls.CONTENTS[datatype]).extend(values)
        else:
            with pytest.raises(RequestError, match="Its shape"):
                calls._asked(message)
            continue
        forms.append(calls._asked(message).columns["x"])
    assert all(each == values for each in forms)


def test_numbers_that_are_none():
    message = RPCS[calls.INFERENCE]["ModelInfer"].request(model_name="toy")
    one = message.inputs.add(name="x", datatype="FP64", shape=[2])
    one.contents.fp64_contents.extend([math.nan, 1.5])
    assert calls._asked(message).columns == {"x": [None, 1.5]}
    one.contents.fp64_contents[0] = math.inf
    with pytest.raises(RequestError, match="Infinity"):
        calls._asked(message)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_comes_is_read_or_refused(data):
    rpc = RPCS[calls.INFERENCE]["ModelInfer"]
    body = data.draw(st.binary(max_size=60), "body")
    if data.draw(st.booleans(), "whole"):
        message = rpc.request(raw_input_contents=data.draw(st.lists(st.binary(max_size=20), max_size=2), "raw"))
        for _ in range(data.draw(st.integers(0, 2), "inputs")):
            shape = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=3), "shape")
            kind = data.draw(st.sampled_from([*KINDS, BYTES, "", "TEXT"]), "datatype")
            each = message.inputs.add(name=data.draw(st.sampled_from("abc"), "name"), datatype=kind, shape=shape)
            each.contents.fp32_contents.extend(data.draw(st.lists(st.floats(width=32), max_size=2), "numbers"))
            each.parameters["binary_data_size"].int64_param = data.draw(st.integers(-1, 30), "size")
        body = message.SerializeToString()
    with contextlib.suppress(RequestError):
        calls._asked(calls._parsed(rpc, body))


def test_what_a_request_may_set(toy):
    message = asked()
    message.parameters["priority"].uint64_param = 1
    message.parameters["timeout"].int64_param = 10_000_000
    assert toy.call("ModelInfer", message).model_name == "toy"
    message.parameters["colour"].string_param = "red"
    refused(lambda: toy.call("ModelInfer", message), CODE.INVALID_ARGUMENT, "no parameter 'colour'")


def _wrong(change):
    message = asked(raw=True)
    change(message)
    return message


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (asked(model="toi"), CODE.NOT_FOUND, "Did you mean 'toy'?"),
        (asked(model_version="9"), CODE.NOT_FOUND, "no version '9'"),
        (asked(name="bodi"), CODE.INVALID_ARGUMENT, "Did you mean 'body'?"),
        (b"\xff\xff", CODE.INVALID_ARGUMENT, "cannot be read"),
        (_wrong(lambda message: message.raw_input_contents.append(b"")), CODE.INVALID_ARGUMENT, "1 inputs and 2 raw"),
        (_wrong(lambda message: message.inputs[0].contents.SetInParent()), CODE.INVALID_ARGUMENT, "has contents and"),
        (_wrong(lambda message: message.inputs.pop()), CODE.INVALID_ARGUMENT, "0 inputs and 1 raw"),
        (_wrong(lambda message: message.outputs.add(name="lable")), CODE.INVALID_ARGUMENT, "Did you mean 'label'?"),
        (asked(["x"] * 10_001), CODE.RESOURCE_EXHAUSTED, "10,001 rows"),
        (asked(["x" * 10_000_100]), CODE.RESOURCE_EXHAUSTED, "longer than 10 MB"),
        (asked(["x" * 11_000_000]), CODE.RESOURCE_EXHAUSTED, "larger than max"),
    ],
)
def test_what_cannot_be_used_is_told(toy, message, code, words):
    refused(lambda: toy.call("ModelInfer", message), code, words)


def test_compressed_messages_are_refused(toy):
    texts = ["x" * 1000]
    call = lambda: toy.call("ModelInfer", asked(texts), compression=grpc.Compression.Gzip)  # noqa: E731
    refused(call, CODE.UNIMPLEMENTED)
    assert toy.call("ModelInfer", asked(texts)).outputs


def test_a_bug_is_logged_under_a_number(toy, caplog):
    refused(lambda: toy.call("ModelInfer", asked([f"secret {POISON}"])), CODE.INTERNAL, "this is error")
    assert "ValueError: poison" in caplog.text
    assert "secret" not in caplog.text


def test_health(toy):
    def check(service):
        message = RPCS[calls.HEALTH]["Check"].request(service=service)
        return toy.call("Check", message, service=calls.HEALTH).status

    assert [check(name) for name in ("", calls.INFERENCE, "liveness")] == [1, 1, 1]
    refused(lambda: check("none"), CODE.NOT_FOUND, "no service 'none'")


def test_a_full_queue_says_when_to_come_again(measure):
    limits = Limits(budget=Budget(rows=1), queue_batches=2)
    with (
        running(toy_runtime(("body",), delay=0.2), limits=limits) as client,
        dialled(client) as toy,
    ):
        coming = [toy.coming("ModelInfer", asked(["x"])) for _ in range(8)]
        full = [each.exception() for each in coming if each.exception() is not None]
        assert 4 <= len(full) <= 6
        for error in full:
            assert error.code() is CODE.UNAVAILABLE
            assert "queue is full" in error.details()
            told = dict(error.trailing_metadata())
            assert 1 <= int(told["retry-after"]) <= 60
            assert int(told["grpc-retry-pushback-ms"]) == 1000 * int(told["retry-after"])
        assert measure(client, 'headstart_rejected_total{reason="queue_full"}') == len(full)
        assert measure(client, f'headstart_requests_total{{route="{INFER}",status="503"}}') == len(full)
        assert toy.call("ModelInfer", asked(["x"])).outputs


@pytest.mark.parametrize("leave", ["deadline", "cancel"])
def test_who_has_left_costs_the_model_nothing(measure, leave):
    with running(toy_runtime(("body",))) as client, dialled(client) as toy:
        release = held(client)
        coming = [toy.coming("ModelInfer", asked(["x"]), timeout=8 if leave == "deadline" else 60) for _ in range(4)]
        until(lambda: measure(client, 'headstart_queue_items{model="toy"}') == 4)
        if leave == "cancel":
            for each in coming:
                each.cancel()
        else:
            assert {each.exception().code() for each in coming} == {CODE.DEADLINE_EXCEEDED}
        until(lambda: measure(client, 'headstart_queue_items{model="toy"}') == 0)
        release.set()
        assert toy.call("ModelInfer", asked(["x"])).outputs
        assert measure(client, "headstart_batch_items_sum") == 1
        assert measure(client, "headstart_inflight") == 1  # the request for the measures itself


def test_answers_are_kept_and_carry_the_id_of_the_request(tmp_path):
    place = str(tmp_path / "ledger.sqlite")
    with (
        keeping(lambda: open_ledger(place), b"s" * 32) as journal,
        protected(Protection(), "127.0.0.1") as safe,
        running(toy_runtime(("body",)), journal=journal) as client,
        dialled(client, guard=safe.grpc_guard) as toy,
    ):
        call = toy.coming("ModelInfer", asked(), metadata=(("x-request-id", "seven"),))
        assert dict(call.trailing_metadata())["x-request-id"] == "seven"
        call.result()
    with open_ledger(place) as ledger:
        kept = list(ledger.read(Prediction))
    assert [(each.request_id, each.row, each.route, each.model) for each in kept] == [
        ("seven", 0, INFER, "toy"),
        ("seven", 1, INFER, "toy"),
    ]


def test_keys_and_the_access_log(tmp_path):
    file, log = tmp_path / "keys.json", tmp_path / "access.jsonl"
    named = {
        "shop": {},
        "watch": {"scopes": ("metrics",)},
        "other": {"models": ("other",)},
        "slow": {"requests_per_second": 0.5, "burst": 4.0},
        "few": {"rows_per_second": 0.5, "burst": 8.0},
        "boss": {"scopes": ("admin",)},
    }
    keys = {name: add_key(file, name, **options)["key"] for name, options in named.items()}
    with (
        protected(Protection(keys=file, access_log=log), "127.0.0.1") as safe,
        running(toy_runtime(("body",)), guard=safe.guard) as client,
        dialled(client, guard=safe.grpc_guard) as toy,
    ):

        def ask(key, call="ModelInfer", message=None, name="authorization"):
            text = f"Bearer {keys.get(key, key)}" if name == "authorization" else keys[key]
            return toy.call(call, message or asked(["x"]), metadata=((name, text),) if key else ())

        for call in ("ServerLive", "ServerReady"):
            toy.call(call)
        toy.call("Check", service=calls.HEALTH)
        refused(lambda: ask(""), CODE.UNAUTHENTICATED, "no API key", "Authorization: Bearer")
        refused(lambda: toy.call("ModelReady"), CODE.UNAUTHENTICATED)
        refused(lambda: ask("hs_secretsecr_nonsense"), CODE.UNAUTHENTICATED, "not valid")
        assert ask("shop").outputs and ask("shop", name="x-api-key").outputs
        refused(lambda: ask("watch"), CODE.PERMISSION_DENIED, "does not allow 'predict'")
        refused(lambda: ask("other"), CODE.PERMISSION_DENIED, "not for the model 'toy'")
        change = RPCS[calls.INFERENCE]["RepositoryModelLoad"].request(model_name="toy")
        refused(lambda: ask("shop", "RepositoryModelLoad", change), CODE.PERMISSION_DENIED, "allow 'admin'")
        refused(lambda: ask("boss", "RepositoryModelLoad", change), CODE.PERMISSION_DENIED, "its admin port")
        told = [refused(lambda: [ask("slow") for _ in range(9)], CODE.RESOURCE_EXHAUSTED, "requests per second")]
        many = asked(["x"] * 5)
        told.append(refused(lambda: ask("few", message=many) and ask("few"), CODE.RESOURCE_EXHAUSTED, "rows per"))
        assert all(int(each["grpc-retry-pushback-ms"]) >= 1000 for each in told)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    answered = [each for each in lines if each["route"] == INFER and each["status"] == 200]
    assert answered[0]["key"] == "shop" and answered[0]["rows"] == 1 and answered[0]["from"] == "127.0.0.1"
    assert keys["shop"] not in log.read_text()


def test_tls(tmp_path):
    cert, key = tmp_path / "one.pem", tmp_path / "one.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert]
    subprocess.run(["openssl", "req", "-x509", *made, *subject], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    trusted = grpc.ssl_channel_credentials(cert.read_bytes())
    for wanted in (Protection(tls_cert=cert, tls_key=key), Protection(tls_cert=both)):
        with (
            protected(wanted, "127.0.0.1") as safe,
            running(toy_runtime(("body",))) as client,
            dialled(client, guard=safe.grpc_guard, options=safe.server_options, credentials=trusted) as toy,
        ):
            assert toy.call("ModelInfer", asked()).outputs
            with grpc.insecure_channel(toy.address) as plain:
                refused(lambda: Dialled(plain).call("ServerLive"), CODE.UNAVAILABLE)


def test_a_port_that_is_taken_meanwhile_is_told_of(client):
    held = _listen("127.0.0.1", 0)
    port = Port(client.app, held, options={}, drain_seconds=1)
    address = held.getsockname()
    held.close()
    with _listen(*address), pytest.raises(ResourceError, match="cannot be opened for gRPC"):
        asyncio.run_coroutine_threadsafe(port.open(), client.loop).result(10)


def test_ipv6(client):
    try:
        _listen("::1", 0).close()
    except Exception:
        pytest.skip("there is no IPv6 here")
    with dialled(client, host="::1") as toy:
        assert toy.call("ServerLive").live


def test_sigterm_answers_what_was_accepted_over_both():
    options = "grpc_port=0, grpc_ready=lambda address: print(address, end=' '), "
    with process(delay=2.0, options=options) as (server, told):
        address, url = told.split()
        with grpc.insecure_channel(address) as channel, concurrent.futures.ThreadPoolExecutor(1) as pool:
            toy = Dialled(channel)
            coming = toy.coming("ModelInfer", asked(["x"], name="text"))
            also = pool.submit(httpx2.post, f"{url}/predict", json="x", timeout=20)
            until(lambda: "headstart_inflight 3.0" in httpx2.get(f"{url}/metrics").text)
            server.terminate()
            assert coming.result().outputs
            assert also.result().status_code == 200
            refused(lambda: toy.call("ServerLive"), CODE.UNAVAILABLE)
        code, errors = ended(server)
    assert code == 0
    assert "Traceback" not in errors
    assert f"gRPC on {address}" in errors


def test_a_taken_port_is_told_before_anything_is_opened():
    with _listen("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", f"from headstart.stages.serve import serve; from headstart.testing.toys import "
             f"toy_runtime; serve(toy_runtime(), port=0, grpc_port={port})"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert f"Port {port} on 127.0.0.1 is in use" in done.stderr
