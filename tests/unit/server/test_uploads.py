"""Bodies that are files, and forms with files."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core.errors import HeadstartError, RequestError
from headstart.server.requests.rows import Fields
from headstart.server.requests.uploads import is_upload, read_form, read_upload
from tests.unit.server import writers

pytest.importorskip("python_multipart")

PHOTOS = Fields(("photo",), (), "photo", ("photo",))
BOTH = Fields(("note", "photo", "sound"), ("note",), "note", ("photo", "sound"))
TEXT = Fields(("body",), ("body",), "body")
KIND = "multipart/form-data; boundary=edge"


def form(*parts):
    """Return a form of (name, content) or (name, content, file name)."""
    body = b""
    for name, content, *file in parts:
        told = f'form-data; name="{name}"' + (f'; filename="{file[0]}"' if file else "")
        body += f"--edge\r\nContent-Disposition: {told}\r\n\r\n".encode() + content + b"\r\n"
    return body + b"--edge--\r\n"


def read(body, fields, kind=KIND):
    return asyncio.run(read_upload(body, kind, fields))


@pytest.mark.parametrize("kind", ["image/png", "audio/wav", "IMAGE/JPEG; q=1", "application/octet-stream"])
def test_a_file_alone_is_a_row(kind):
    assert read(b"bytes", PHOTOS, kind) == ([{"photo": b"bytes"}], False)


def test_a_form_with_several_files_is_several_rows():
    body = form(("photo", b"one", "1.png"), ("photo", b"two", "2.png"))
    assert read(body, PHOTOS) == ([{"photo": b"one"}, {"photo": b"two"}], True)


@pytest.mark.parametrize("name", ["file", "files", "files[]"])
def test_the_only_files_may_be_called_files(name):
    assert read(form((name, b"\xff\x00", "x")), PHOTOS) == ([{"photo": b"\xff\x00"}], False)


def test_what_is_sent_once_stands_in_each_row():
    body = form(("note", "grün".encode()), ("photo", b"one", "1"), ("photo", b"two", "2"), ("sound", b"la", "3"))
    rows, many = read(body, BOTH)
    assert many
    assert rows == [{"note": "grün", "photo": photo, "sound": b"la"} for photo in (b"one", b"two")]


def test_a_text_is_the_main_column():
    assert read(form(("text", b"words")), TEXT) == ([{"body": "words"}], False)


def test_large_files_come_whole():
    large = bytes(range(256)) * 20_000
    assert read(form(("photo", large, "x")), PHOTOS)[0] == [{"photo": large}]


@pytest.mark.parametrize(
    ("body", "fields", "kind", "words"),
    [
        (b"x", TEXT, "image/png", "does not read one file.*no files.*Send JSON"),
        (b"x", BOTH, "image/png", "reads 'photo', 'sound'.*multipart"),
        (form(("file", b"x", "x")), BOTH, KIND, "does not read one file"),
        (form(("foto", b"x", "x")), PHOTOS, KIND, "Did you mean 'photo'?"),
        (form(("note", b"x", "x")), BOTH, KIND, "'note' is a file"),
        (form(("photo", b"x", "x"), ("photo", b"y")), PHOTOS, KIND, "both as a text and as a file"),
        (form(), PHOTOS, KIND, "form is empty"),
        (form(*[("photo", b"x", "x")] * 3, *[("note", b"x")] * 2), BOTH, KIND, "2 of 'note' and 3"),
        (b"--edge\r\nnonsense", PHOTOS, KIND, "form cannot be read"),
        (form(("photo", b"abc", "x"))[:-8], PHOTOS, KIND, "ends too early"),
        (b"", PHOTOS, "multipart/form-data", "form cannot be read"),
        (form(*[("photo", b"", "x")] * 1001), PHOTOS, KIND, "Too many files"),
    ],
)
def test_what_does_not_fit_is_refused(body, fields, kind, words):
    with pytest.raises(RequestError, match=words):
        read(body, fields, kind)


def test_bytes_are_a_file_where_the_model_reads_one():
    assert is_upload("application/octet-stream", PHOTOS)
    assert not is_upload("application/octet-stream", TEXT)
    assert not is_upload("", PHOTOS)
    assert not is_upload("application/x-www-form-urlencoded", PHOTOS)


def test_files_are_sent_to_predict(serving, tmp_path):
    tone = writers.sound(0.3)
    with serving({"listener": writers.listener(tmp_path)}) as client:
        one = client.post("/predict", content=tone, headers={"content-type": "audio/wav"})
        assert one.json()["text"] == "hello"
        several = client.post("/predict", files=[("audio", ("a.wav", tone)), ("audio", ("b.wav", tone))])
        assert [each["text"] for each in several.json()["predictions"]] == ["hello", "hello"]
        sent = client.post("/predict", json={"audio": f"data:audio/wav;base64,{writers.base64(tone)}"})
        assert sent.json() == one.json()
        elsewhere = client.post("/predict", json={"audio": "http://127.0.0.1/a.wav"})
        assert (elsewhere.status_code, "not fetched" in elsewhere.json()["error"]["message"]) == (422, True)


def test_another_content_type_is_no_form():
    with pytest.raises(RequestError, match="'application/json'") as found:
        asyncio.run(read_form(b"{}", "application/json"))
    assert found.value.status == 415


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=80), st.sampled_from(["", "--edge\r\n", '--edge\r\nContent-Disposition: form-data; name="a"'])
)
def test_whatever_comes_is_read_or_refused(body, start):
    try:
        asyncio.run(read_form(start.encode() + body, KIND))
    except HeadstartError as error:
        assert error.status == 400
