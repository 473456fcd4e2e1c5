"""What every stand-in is made of: requests, answers, faults on demand, and a server in a thread."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """What a client sent; `path` is unquoted, `headers` have lower-case names."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    def json(self) -> Any:
        return json.loads(self.body or b"null")


@dataclass(frozen=True)
class Answer:
    """What the server sends; `cut` is after how many bytes of the body it hangs up, -1 for never."""

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = -1


@dataclass
class Fault:
    """What goes wrong for the next `times` requests whose `METHOD path` contains `part`.

    Either `status` is answered in place of the real answer, or the real answer is cut after `cut` bytes.
    """

    part: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = -1
    times: int = 1


class Address(str):
    """The stand-in's URL, with what it was asked (`log`) and what it shall do wrong (`faults`)."""

    log: list[Request]
    faults: list[Fault]

    def asked(self, part: str) -> list[Request]:
        return [each for each in self.log if part in f"{each.method} {each.path}"]


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    body = json.dumps(value).encode()
    return Answer(status, body, {"Content-Type": "application/json", **headers})


def ranged(request: Request, body: bytes, **headers: str) -> Answer:
    """Return a file, or the part of it that was asked for, unless it has changed since (If-Range)."""
    headers = {"Accept-Ranges": "bytes", **headers}
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    kept = request.headers.get("if-range", headers.get("ETag", ""))
    if not match or kept != headers.get("ETag", ""):
        return Answer(200, body, headers)
    start, end = int(match[1]), int(match[2] or len(body) - 1)
    if start >= len(body):
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{len(body)}"})
    part = body[start : end + 1]
    return Answer(206, part, {**headers, "Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(body)}"})


@contextlib.contextmanager
def serve(answer: Callable[[Request], Answer], port: int = 0) -> Iterator[Address]:
    """Serve on this machine until the block ends; `port` 0 takes a free one."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    address = Address(f"http://127.0.0.1:{server.server_port}")
    address.log, address.faults = [], []
    server.answer, server.address = answer, address  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunked()
        request = Request(
            self.command,
            unquote(parts.path),
            parse_qs(parts.query),
            {name.lower(): value for name, value in self.headers.items()},
            body,
        )
        self.server.address.log.append(request)  # type: ignore[attr-defined]
        self._send(self._faulty(request))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any  # noqa: N815

    def _chunked(self) -> bytes:
        body = b""
        while self.headers.get("Transfer-Encoding") == "chunked":
            size = int(self.rfile.readline().split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                break
        return body

    def _faulty(self, request: Request) -> Answer:
        for fault in self.server.address.faults:  # type: ignore[attr-defined]
            if fault.times > 0 and fault.part in f"{request.method} {request.path}":
                fault.times -= 1
                if fault.status:
                    return Answer(fault.status, b"not now", fault.headers)
                return replace(self.server.answer(request), cut=fault.cut)  # type: ignore[attr-defined]
        return self.server.answer(request)  # type: ignore[attr-defined]

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(OSError):
            if answer.cut >= 0:
                self.wfile.write(answer.body[: answer.cut])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""
