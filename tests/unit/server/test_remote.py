"""Files by URL: only from hosts that are allowed, never from inside, within their size and time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headstart.core.errors import RequestError
from headstart.server.requests import remote

PICTURE = b"some bytes of a picture" * 100


class _Files(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/")
            self.end_headers()
        elif self.path == "/none":
            self.send_error(404)
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(600):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 100_000)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PICTURE)))
            self.end_headers()
            self.wfile.write(PICTURE)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(url, *hosts, most=1_000_000, seconds=5.0):
    return remote.fetch(url, hosts, most_bytes=most, seconds=seconds)


def test_a_file_is_fetched_from_a_host_that_is_allowed(port):
    assert fetch(f"http://127.0.0.1:{port}/a%20b?c=ä", f"127.0.0.1:{port}") == PICTURE
    assert _Files.asked[-1] == "/a%20b?c=%C3%A4"


def test_other_ports_of_a_host_are_not_asked(port):
    for hosts in ((), ("127.0.0.1",), ("127.0.0.1:80",), ("example.com",)):
        with pytest.raises(RequestError, match=r"which is not fetched from.*--url-host"):
            fetch(f"http://127.0.0.1:{port}/x", *hosts)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "localhost."])
def test_a_name_that_leads_inside_is_not_asked(port, name):
    with pytest.raises(RequestError, match="on a private network"):
        fetch(f"http://{name}:{port}/x", f"localhost:{port}")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///a",
        "http://user:word@127.0.0.1/",
        "http://127.0.0.1@example.com/",
        "http://127.0.0.1:99999/",
        "http://[::1/",
        "http://a b/",
        "http://127.0.0.1/a\r\nX: y",
        "ftp://127.0.0.1/",
        "http://" + "a" * 300 + "/",
        "http://\udcff/",
    ],
)
def test_what_is_no_plain_url_is_refused(url):
    with pytest.raises(RequestError):
        fetch(url, "127.0.0.1", "example.com", "a")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "nonsense",
    ],
)
def test_addresses_inside(address):
    assert not remote.is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_addresses_outside(address):
    assert remote.is_public(address)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("moved", "is not followed"),
        ("none", "it answered 404"),
        ("short", "cut off"),
        ("endless", "larger than 0.05 MB"),
    ],
)
def test_what_does_not_give_the_file(port, path, words):
    with pytest.raises(RequestError, match=words):
        fetch(f"http://127.0.0.1:{port}/{path}", f"127.0.0.1:{port}", most=50_000)


def test_a_file_that_drips_is_given_up(port):
    started = time.monotonic()
    with pytest.raises(RequestError, match="took too long"):
        fetch(f"http://127.0.0.1:{port}/slow", f"127.0.0.1:{port}", seconds=0.3)
    assert time.monotonic() - started < 10


def test_a_port_where_nobody_answers():
    with pytest.raises(RequestError, match=r"No file came from '127\.0\.0\.1'"):
        fetch("http://127.0.0.1:9/x", "127.0.0.1:9")
