"""What a protected server lets in, keeps out, adds and writes down: over real sockets."""

from __future__ import annotations

import argparse
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from headstart.cli import _protection
from headstart.core.errors import ResourceError, UsageError
from headstart.core.ledger import Decision, Prediction
from headstart.ledgers import open_ledger
from headstart.server.app import create_app
from headstart.server.protection.access import AuditLog, check_exposure, cors_options, loopback, tls_options
from headstart.server.protection.keyring import CALLER, Caller, Denied, Keyring, Limited, permit
from headstart.server.protection.protected import Protection, keeping, protected
from headstart.stages.keys import add_key, revoke_key
from headstart.stages.protect import protecting
from headstart.testing.toys import toy_runtime

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def running(wanted: Protection, host: str = "127.0.0.1", verify: object = True):
    """Serve a toy as `wanted`, and yield a client."""
    with protected(wanted, host) as protection:
        app = create_app(toy_runtime(("body",)), name="toy", guard=protection.guard)
        options = dict(protection.server_options)
        config = uvicorn.Config(app, host=host, port=0, log_level="critical", lifespan="on", ws="none", **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.005)
            port = server.servers[0].sockets[0].getsockname()[1]
            scheme = "https" if wanted.tls_cert else "http"
            with httpx2.Client(base_url=f"{scheme}://localhost:{port}", timeout=10, verify=verify) as client:
                client.port = port
                client.service = app.state.service
                yield client
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Return a file of keys and the keys in it by name."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    made = {
        "shop": {},
        "watch": {"scopes": ("metrics",)},
        "other": {"models": ("other",)},
        "slow": {"requests_per_second": 0.5, "burst": 4.0},
        "few": {"rows_per_second": 0.5, "burst": 8.0},
        "gone": {},
    }
    return file, {name: add_key(file, name, **options)["key"] for name, options in made.items()}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "access.jsonl"


@pytest.fixture(scope="module")
def client(keys, log):
    with running(Protection(keys=keys[0], access_log=log)) as client:
        yield client


@pytest.fixture
def bearer(keys):
    return lambda name: {"authorization": f"Bearer {keys[1][name]}"}


def test_without_a_key_only_probes_are_answered(client):
    for path in ("/health/live", "/health/ready"):
        assert client.get(path).status_code == 200
    for method, path in (("POST", "/predict"), ("GET", "/metrics"), ("GET", "/"), ("GET", "/docs"), ("GET", "/no")):
        refused = client.request(method, path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert "Authorization: Bearer" in refused.json()["error"]["hint"]


def test_a_wrong_key_is_not_repeated(client, caplog):
    refused = client.post("/predict", headers={"x-api-key": "hs_secretsecr_nonsense"}, json="red")
    assert refused.status_code == 401
    assert "nonsense" not in refused.text
    assert "nonsense" not in caplog.text


@pytest.mark.parametrize("form", ["authorization", "x-api-key"])
def test_a_good_key_is_answered(client, keys, form):
    text = keys[1]["shop"]
    headers = {form: f"Bearer {text}" if form == "authorization" else text}
    answered = client.post("/predict", headers=headers, json="red red")
    assert answered.status_code == 200
    assert answered.json()["label"]


def test_a_key_allows_its_scopes_only(client, bearer):
    assert client.get("/metrics", headers=bearer("watch")).status_code == 200
    refused = client.get("/metrics", headers=bearer("shop"))
    assert refused.status_code == 403
    assert refused.json()["error"]["message"] == "The key 'shop' does not allow 'metrics'. It allows 'predict'."
    assert client.post("/predict", headers=bearer("watch"), json="red").status_code == 403


def test_each_protocol_refuses_in_its_own_words(client):
    refused = client.get("/v2/models/toy")
    assert refused.status_code == 401
    assert isinstance(refused.json()["error"], str)


def test_a_key_may_ask_only_so_often(client, bearer):
    told = [client.post("/predict", headers=bearer("slow"), json="red") for _ in range(4)]
    assert [each.status_code for each in told[:2]] == [200, 200]
    assert told[-1].status_code == 429
    assert 1 <= int(told[-1].headers["retry-after"]) <= 2
    assert client.post("/predict", headers=bearer("shop"), json="red").status_code == 200


def test_a_revoked_key_is_refused_soon(client, keys, bearer):
    assert client.post("/predict", headers=bearer("gone"), json="red").status_code == 200
    revoke_key(keys[0], "gone")
    time.sleep(1.1)
    assert client.post("/predict", headers=bearer("gone"), json="red").status_code == 401


def test_refusals_are_counted(client, bearer, keys):
    client.post("/predict")
    client.get("/metrics", headers=bearer("shop"))
    measures = client.get("/metrics", headers=bearer("watch")).text
    for reason in ("key", "scope"):
        assert re.search(rf'headstart_rejected_total{{reason="{reason}"}} [1-9]', measures)


def test_who_guesses_is_slowed_down(keys):
    with running(Protection(keys=keys[0])) as client:
        told = [client.get("/", headers={"x-api-key": str(each)}) for each in range(24)]
        assert told[0].status_code == 401
        assert told[-1].status_code == 429
        assert told[-1].headers["retry-after"] == "1"
        assert client.post("/predict", headers={"x-api-key": keys[1]["shop"]}, json="red").status_code == 200


def test_every_answer_has_the_security_headers(client, bearer):
    for answered in (client.get("/health/live"), client.get("/"), client.get("/", headers=bearer("shop"))):
        assert answered.headers["x-content-type-options"] == "nosniff"
        assert answered.headers["x-frame-options"] == "DENY"
        assert answered.headers["x-request-id"]
        assert "strict-transport-security" not in answered.headers


def test_no_web_page_may_ask(client, bearer):
    asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.options("/predict", headers=asked).headers


def test_a_web_page_may_ask_where_it_is_allowed(keys):
    wanted = Protection(keys=keys[0], cors_origins=("https://shop.example",))
    with running(wanted) as client:
        asked = {
            "origin": "https://shop.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        }
        allowed = client.options("/predict", headers=asked)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
        refused = client.post("/predict", headers={"origin": "https://shop.example"}, json="red")
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://shop.example"
        other = client.options("/predict", headers=asked | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_too_many_headers(client, bearer):
    refused = client.get("/health/live", headers={f"x-{each}": "1" for each in range(120)})
    assert refused.status_code == 431
    assert "100 lines" in refused.json()["error"]["message"]
    assert client.get("/health/live", headers={"x-long": "1" * 40_000}).status_code == 431


def test_the_access_log_tells_who_and_how_but_not_what(client, log, keys, bearer):
    number = "0123456789abcdef-log"
    headers = bearer("shop") | {"x-request-id": number}
    client.post("/predict", headers=headers, json="my secret words")
    client.get("/health/ready?secret=word", headers={"x-request-id": number + "2"})
    deadline, lines = time.monotonic() + 5, []
    while len(lines) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        lines = [line for line in map(json.loads, log.read_text().splitlines()) if line["id"].startswith(number)]
    first, second = lines
    assert (first["key"], first["method"], first["route"], first["status"]) == ("shop", "POST", "/predict", 200)
    assert first["ms"] > 0
    assert first["bytes"] > 10
    assert (second["key"], second["route"]) == ("", "/health/ready")
    assert "secret" not in log.read_text()
    assert keys[1]["shop"] not in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_log_that_cannot_be_written_delays_nobody(keys):
    with running(Protection(access_log="/dev/full")) as client:
        assert all(client.post("/predict", json="red").status_code == 200 for _ in range(20))
    with (
        pytest.raises(ResourceError, match="cannot be written"),
        protected(Protection(access_log="/no/such/folder/log"), "127.0.0.1"),
    ):
        pass


def test_a_server_for_this_machine_is_asked_by_its_names_only():
    with running(Protection()) as client:
        for name in ("localhost", "127.0.0.1:80", "[::1]:8000", "tickets.localhost"):
            assert client.get("/health/live", headers={"host": name}).status_code == 200
        for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"):
            assert client.get("/health/live", headers={"host": name}).status_code == 421


@pytest.fixture(scope="module")
def quick():
    """Return a client of a server that waits half a second for a request's headers."""
    with running(Protection(head_seconds=0.5)) as client:
        yield client


def silent(port: int, *parts: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Send parts, and return what comes back until the server closes, and after how many seconds it did."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=8) as sock:
        received = b""
        try:
            for part in parts:
                sock.sendall(part)
                time.sleep(pause)
            while chunk := sock.recv(65536):
                received += chunk
        except (BrokenPipeError, ConnectionResetError):
            pass
        return received, time.monotonic() - started


def test_who_sends_nothing_is_shown_out(quick):
    received, seconds = silent(quick.port)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert seconds > 0.4


def test_who_sends_a_byte_now_and_then_is_shown_out(quick):
    head = HEAD + b"X-Slow: 1\r\n"
    received, _ = silent(quick.port, *(head[each : each + 1] for each in range(len(head))), pause=0.05)
    assert received.startswith(b"HTTP/1.1 408 ") or received == b""


def test_who_is_slow_with_the_second_request_is_shown_out(quick):
    received, _ = silent(quick.port, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n", HEAD, pause=0.2)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in received


def test_headers_without_end_are_not_collected(quick):
    received, _ = silent(quick.port, HEAD, *[b"x-a: " + b"b" * 8000 + b"\r\n"] * 40)
    assert not received or received.split(b" ")[1] in (b"400", b"431")


def test_who_is_idle_between_requests_may_stay(quick):
    with socket.create_connection(("127.0.0.1", quick.port), timeout=8) as sock:
        for _ in range(2):
            sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while b'"live"' not in received:
                received += sock.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")
            time.sleep(1.0)


def test_a_slow_body_is_not_a_slow_head(quick):
    body = json.dumps("red").encode()
    head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    received, _ = silent(quick.port, head, *(body[each : each + 1] for each in range(len(body))), pause=0.25)
    assert received.startswith(b"HTTP/1.1 200 ")


def test_a_crowd_of_slow_ones_takes_nothing_from_others(quick):
    held = [socket.create_connection(("127.0.0.1", quick.port), timeout=8) for _ in range(100)]
    try:
        for each in held:
            each.sendall(HEAD)
        assert quick.post("/predict", json="red").status_code == 200
        time.sleep(1.0)
        assert all(each.recv(100).startswith(b"HTTP/1.1 408") for each in held)
    finally:
        for each in held:
            each.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return a certificate for localhost and its key, and another key."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("one", "two"):
        made = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem", "-days", "2"]
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        subprocess.run(["openssl", "req", "-x509", *kind, *subject, *made], check=True, capture_output=True)
    return folder / "one.pem", folder / "one.key", folder / "two.key"


def test_tls(pair, keys):
    cert, key, _ = pair
    context = ssl.create_default_context(cafile=cert)
    with running(Protection(keys=keys[0], tls_cert=cert, tls_key=key), verify=context) as client:
        answered = client.post("/predict", headers={"x-api-key": keys[1]["shop"]}, json="red")
        assert answered.status_code == 200
        assert answered.headers["strict-transport-security"].startswith("max-age=")
        received, _ = silent(client.port, b"GET / HTTP/1.1\r\n\r\n")
        assert b"200" not in received
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.load_verify_locations(cert)
        with (
            socket.create_connection(("127.0.0.1", client.port), timeout=8) as sock,
            old.wrap_socket(sock, server_hostname="localhost") as wrapped,
        ):
            assert wrapped.version() == "TLSv1.2"


def test_certificates_that_cannot_be_used(pair, tmp_path):
    cert, key, other = pair
    assert tls_options(cert, key) == {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}
    with pytest.raises(UsageError, match="KEY_VALUES_MISMATCH"):
        tls_options(cert, other)
    with pytest.raises(UsageError, match="--tls-cert"):
        tls_options(tmp_path / "none.pem", key)
    with pytest.raises(UsageError, match="cannot be used for TLS"):
        tls_options(cert)
    sealed = tmp_path / "sealed.key"
    command = ["openssl", "ec", "-aes128", "-passout", "pass:word", "-in", key, "-out", sealed]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(UsageError, match="without a password"):
        tls_options(cert, sealed)


def test_what_others_can_reach_asks_for_keys():
    assert check_exposure("127.0.0.1", keys=False) == check_exposure("localhost", keys=False) == ""
    for host in ("0.0.0.0", "::", "192.0.2.1", ""):
        with pytest.raises(UsageError, match=r"headstart keys add .* or add --insecure"):
            check_exposure(host, keys=False)
        assert "everybody who reaches" in check_exposure(host, keys=False, insecure=True)
        assert "--tls-cert" in check_exposure(host, keys=True)
        assert check_exposure(host, keys=True, tls=True) == ""
    assert loopback("127.8.9.1")
    assert loopback("::1")


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "https://a@shop.example", "", "https://"])
def test_what_is_no_origin(origin):
    with pytest.raises(UsageError, match="is no origin"):
        cors_options([origin])


def test_the_audit_is_appended(tmp_path, caplog):
    for each in range(2):
        audit = AuditLog(tmp_path / "audit.jsonl")
        audit.note("ada", "load", "/models/tickets", version=each)
        audit.close()
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["who"], line["what"], line["result"], line["version"]) for line in lines] == [
        ("ada", "load", "done", 0),
        ("ada", "load", "done", 1),
    ]
    full = AuditLog("/dev/full")
    full.note("ada", "load", "/models/tickets")
    assert '"who":"ada"' in caplog.text


def test_the_commands_options_protect_the_server(keys, tmp_path):
    parser = argparse.ArgumentParser()
    _protection.options(parser)
    place = tmp_path / "predictions.sqlite"
    chosen = parser.parse_args(["--keys", str(keys[0]), "--ledger", str(place), "--audit-log", str(tmp_path / "audit")])
    with protecting("0.0.0.0", _protection.protection(chosen), **_protection.ledger(chosen)) as found:
        assert "--tls-cert" in found["warning"]
        client = TestClient(create_app(toy_runtime(("body",)), name="toy", **found["app_options"]))
        with client:
            assert client.post("/predict", json="red").status_code == 401
            told = client.post("/predict", json="red", headers={"x-api-key": keys[1]["shop"]}).json()
    with open_ledger(str(place)) as ledger:
        (prediction,) = ledger.read(Prediction)
    assert (prediction.caller, prediction.route, prediction.pred) == ("shop", "/predict", told["label"])
    assert (tmp_path / "predictions.sqlite.key").stat().st_mode & 0o077 == 0


def test_what_is_kept_needs_a_ledger():
    with pytest.raises(UsageError, match=r"--ledger predictions\.sqlite"), protecting("127.0.0.1", keep_days=3):
        pass


def test_what_operators_change_is_noted(keys, tmp_path):
    boss = add_key(keys[0], "boss", scopes=("admin",))["key"]
    place = str(tmp_path / "l.sqlite")
    wanted = Protection(keys=keys[0], audit_log=tmp_path / "audit.jsonl")
    with (
        keeping(lambda: open_ledger(place), b"s" * 32) as journal,
        protected(wanted, "127.0.0.1", journal=journal) as made,
    ):
        app = FastAPI()

        @app.post("/models/{name}/load")
        async def load(name: str) -> str:
            return name

        @app.get("/models")
        async def models() -> str:
            return "none"

        for each in reversed(made.admin_guard):
            app.add_middleware(each.cls, *each.args, **each.kwargs)
        with TestClient(app) as client:
            assert client.post("/models/toy/load", headers={"x-api-key": keys[1]["shop"]}).status_code == 403
            assert client.post("/models/toy/load", headers={"x-api-key": boss}).status_code == 200
            assert client.post("/models/toy/nothing", headers={"x-api-key": boss}).status_code == 404
            assert client.get("/models", headers={"x-api-key": boss}).status_code == 200
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["who"], line["what"], line["subject"], line["result"]) for line in lines] == [
        ("boss", "load", "/models/toy", "done"),
        ("boss", "nothing", "/models/toy", "refused with 404"),
    ]
    with open_ledger(place) as ledger:
        assert [(each.actor, each.kind, each.result) for each in ledger.read(Decision)] == [
            ("boss", "load", "done"),
            ("boss", "nothing", "refused with 404"),
        ]


def test_a_key_may_ask_for_only_so_many_rows_and_its_own_models(keys, bearer):
    scope = {"type": "http", "headers": [(b"x-api-key", keys[1]["few"].encode())], "client": ("10.0.0.1", 1)}
    ring = Keyring(keys[0])
    few, other = ring.find(keys[1]["few"]), ring.find(keys[1]["other"])
    scope[CALLER] = Caller(few, ring)
    permit(scope, "toy", 4)
    with pytest.raises(Limited) as limited:
        permit(scope, "toy", 4)
    assert limited.value.status == 429
    assert limited.value.headers == {"Retry-After": str(limited.value.retry_after)}
    scope = {"type": "http", CALLER: Caller(other, ring)}
    permit(scope, "other", 1)
    with pytest.raises(Denied, match="not for the model 'toy'") as denied:
        permit(scope, "toy", 1)
    assert denied.value.status == 403
    permit({"type": "http"}, "toy", 10**6)
