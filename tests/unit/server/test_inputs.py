"""Cells before they wait for the model: files opened, and nothing larger than it may be."""

from __future__ import annotations

import asyncio
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headstart.core.errors import RequestError
from headstart.server.requests.inputs import Caps, admitted, is_sound
from headstart.testing.files import picture
from tests.unit.server import writers


class _Files(BaseHTTPRequestHandler):
    content = picture(3, side=64).read()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def files_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", _Files.content
    server.shutdown()
    thread.join()
    server.server_close()


async def in_pool(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


def admit(rows, files=("file",), **caps):
    return asyncio.run(admitted(rows, files, Caps(**caps), in_pool))


def data_url(data, kind="image/png"):
    return f"data:{kind};base64,{writers.base64(data)}"


def test_files_become_bytes():
    photo = picture(1).read()
    given = [{"file": data_url(photo), "text": "a"}, {"file": photo}, {"file": None}, {"text": "b"}]
    assert admit(given) == [{"file": photo, "text": "a"}, {"file": photo}, {"file": None}, {"text": "b"}]
    assert given[0]["file"] == data_url(photo)  # what was given stays as it is


def test_texts_have_a_longest():
    assert admit([{"text": "x" * 10}], characters=10) == [{"text": "x" * 10}]
    with pytest.raises(RequestError, match=r"Row 2: 'text' has 11 characters.*Allowed: 10.*--max-characters") as found:
        admit([{"text": "x"}, {"text": "x" * 11}], characters=10)
    assert found.value.status == 413


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_pictures_have_a_most_of_pixels(kind):
    photo = picture(1, side=40, kind=kind).read()
    assert admit([{"file": photo}], pixels=1600) == [{"file": photo}]
    with pytest.raises(RequestError, match=r"more than 1,599 pixels.*--max-pixels") as found:
        admit([{"file": photo}], pixels=1599)
    assert found.value.status == 413


def test_a_picture_that_claims_to_be_huge_is_not_opened():
    photo = bytearray(picture(1).read())
    photo[16:24] = struct.pack(">II", 200_000, 200_000)
    from zlib import crc32

    photo[29:33] = struct.pack(">I", crc32(photo[12:29]))
    with pytest.raises(RequestError, match="more than 50,000,000 pixels"):
        admit([{"file": bytes(photo)}])


def test_recordings_have_a_longest():
    tone = writers.sound(0.5)
    assert admit([{"file": tone}], audio_seconds=0.5) == [{"file": tone}]
    with pytest.raises(RequestError, match=r"more than 0\.4 seconds.*--max-audio-seconds") as found:
        admit([{"file": tone}], audio_seconds=0.4)
    assert found.value.status == 413


def test_a_recording_of_unknown_length_is_counted():
    tone = bytearray(writers.sound(0.5))
    at = tone.index(b"data")
    tone[at + 4 : at + 8] = tone[4:8] = b"\xff\xff\xff\xff"
    assert len(admit([{"file": bytes(tone)}], audio_seconds=1)) == 1
    with pytest.raises(RequestError, match=r"more than 0\.4 seconds"):
        admit([{"file": bytes(tone)}], audio_seconds=0.4)


@pytest.mark.parametrize("broken", [b"", b"no picture", b"RIFF\x00\x00\x00\x00WAVEfmt ", picture(1).read()[:60]])
def test_what_is_broken_is_left_to_the_model(broken):
    assert admit([{"file": broken}]) == [{"file": broken}]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("photo.png", "'photo.png'"),
        ("/etc/passwd", "'/etc/passwd'"),
        ("data:image/png,abc", "data:image/jpeg;base64"),
        ("data:image/png;base64,%%", "not valid base64"),
        (3, "a number"),
        ({"bytes": "x"}, "an object"),
        ("https://example.com/a.png", "'example.com'.*Files are sent in the request"),
        ("HTTP://example.com/a.png", "'example.com'"),
    ],
)
def test_what_is_no_content_is_refused(cell, words):
    with pytest.raises(RequestError, match=words):
        admit([{"file": cell}])


def test_files_are_fetched_where_they_are_named(files_server):
    at, content = files_server
    given = [{"file": f"http://{at}/{number}", "text": "a"} for number in range(3)]
    assert admit(given, url_hosts=(at,)) == [{"file": content, "text": "a"}] * 3
    with pytest.raises(RequestError, match="names 3 files by URL") as found:
        admit(given, url_hosts=(at,), url_files=2)
    assert found.value.status == 413
    with pytest.raises(RequestError, match=r"larger than 0\.001 MB"):
        admit(given, url_hosts=(at,), file_bytes=1000)


def test_sounds_are_told_from_pictures():
    assert is_sound(writers.sound(0.1))
    assert not is_sound(picture(1, kind="WEBP").read())
