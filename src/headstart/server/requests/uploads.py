"""Uploads: bodies that are files, or forms with files, as rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from headstart.core.errors import RequestError, listed, nearest
from headstart.core.registry import require
from headstart.server.requests.rows import Fields, short

FORM = "multipart/form-data"
FILES = ("image/", "audio/")
BYTES = "application/octet-stream"
ANY = ("file", "files", "file[]", "files[]")
"""What the files of a form may be called where the model reads one column of files."""
PARTS = 1000
"""Most files, and most other fields, of one form."""


@final
@dataclass(frozen=True)
class Form:
    """What a form held: texts and files by name, each name's in order."""

    texts: Mapping[str, Sequence[str]]
    files: Mapping[str, Sequence[bytes]]


def is_upload(content_type: str, fields: Fields) -> bool:
    """Return whether a body of that content type is a file, or a form with files, for a model with these fields.

    >>> is_upload("multipart/form-data; boundary=x", Fields(("text",), ("text",), "text"))
    True
    >>> is_upload("application/json", Fields(("photo",), (), "photo", ("photo",)))
    False
    """
    kind = content_type.strip().casefold()
    # Some clients call everything a stream of bytes, JSON too.
    return kind.startswith((FORM, *FILES)) or bool(fields.files and kind.startswith(BYTES))


@final
class _Parser(MultiPartParser):
    """Starlette's, which also knows whether the form's last line was there."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def read_form(body: bytes, content_type: str) -> Form:
    """Return what a form holds.

    Args:
        body: all of it, already known to be within the limit.
        content_type: with its boundary.

    Raises:
        RequestError: it is not a form, or has more parts than are read (status 400).
        MissingExtra: the parser is not installed.
    """
    require("python_multipart", "serve")
    if not content_type.strip().casefold().startswith(FORM):
        raise RequestError(f"The body is '{short(content_type)}'.", status=415, allowed=f"A form: {FORM}.")

    async def once() -> AsyncGenerator[bytes, None]:
        yield body
        if not parser.ended:
            raise MultiPartException("it ends too early")

    headers = Headers({"content-type": content_type})
    parser = _Parser(headers, once(), max_files=PARTS, max_fields=PARTS, max_part_size=len(body) + 1)
    # All of it is in memory already: nothing is written to a disk.
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError) as error:
        raise RequestError(f"The form cannot be read: {str(error).rstrip('.')}.", status=400) from None
    texts: dict[str, list[str]] = {}
    files: dict[str, list[bytes]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.setdefault(name, []).append(await value.read())
        else:
            texts.setdefault(name, []).append(value)
    await form.close()
    return Form(texts, files)


async def read_upload(body: bytes, content_type: str, fields: Fields) -> tuple[list[dict[str, Any]], bool]:
    """Return the rows of an upload, and whether they are several.

    A body of `image/…` or `audio/…` is one row with one file. A form's parts are columns by name; a column that is
    sent several times makes several rows, and what is sent once then stands in each of them.

    Args:
        body: all of it.
        content_type: what it says it is.
        fields: those that the model reads.

    Raises:
        RequestError: the model reads no such file, or the form's parts do not fit together.
    """
    if not content_type.strip().casefold().startswith(FORM):
        return [{_only(fields, f"The body is a file ({short(content_type)})"): body}], False
    form = await read_form(body, content_type)
    columns: dict[str, Sequence[Any]] = {}
    for name, values in [*form.texts.items(), *form.files.items()]:
        column = _column(name, fields, name in form.files)
        if column in columns:
            raise RequestError(f"The form has '{short(name)}' both as a text and as a file.")
        columns[column] = values
    if not columns:
        raise RequestError("The form is empty.", allowed=f"Fields: {listed(fields.columns)}.")
    rows = max(len(values) for values in columns.values())
    uneven = [name for name, values in columns.items() if len(values) not in (1, rows)]
    if uneven:
        raise RequestError(
            f"The form has {len(columns[uneven[0]])} of '{uneven[0]}' and {rows} of another field.",
            allowed="Each field is there once, or once for each row.",
        )
    spread = {name: list(values) * (rows if len(values) == 1 else 1) for name, values in columns.items()}
    return [{name: values[row] for name, values in spread.items()} for row in range(rows)], rows > 1


def _only(fields: Fields, problem: str) -> str:
    if len(fields.files) == 1:
        return fields.files[0]
    reads = f"It reads {listed(fields.files)}." if fields.files else f"It reads {listed(fields.columns)}, no files."
    hint = "Send a form (multipart/form-data) with a part for each." if fields.files else "Send JSON."
    raise RequestError(f"{problem}, and this model does not read one file.", allowed=reads, hint=hint)


def _column(name: str, fields: Fields, is_file: bool) -> str:
    if is_file and name not in fields.columns and name in ANY:
        return _only(fields, f"The form's file is called '{name}'")
    if name in fields.columns:
        if is_file and name not in fields.files:
            raise RequestError(f"The form's '{short(name)}' is a file.", allowed="This column holds texts or numbers.")
        return name
    if name == fields.alias and name:
        return fields.main
    raise RequestError(
        f"The form has a field '{short(name)}', which this model does not read.",
        allowed=f"Fields: {listed(fields.columns)}.",
        hint=nearest(short(name), fields.columns),
    )
