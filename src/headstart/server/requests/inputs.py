"""What a request's cells may be, before they wait for the model: files opened, lengths and sizes checked."""

from __future__ import annotations

import asyncio
import binascii
import io
import warnings
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from headstart.core.dataset import is_blank
from headstart.core.errors import RequestError
from headstart.core.registry import require
from headstart.server.queue.work import Row
from headstart.server.requests.remote import fetch
from headstart.server.requests.rows import is_url, kind, short

AT_ONCE = 8
"""Files of one request that are fetched side by side."""
BLOCK = 1 << 16
UNKNOWN = 0x7FFFFF00
"""From here on a recording's length in its header means: written before it was known."""
SOUNDS = (b"fLaC", b"OggS", b"ID3", b"FORM", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")
InPool = Callable[..., Awaitable[Any]]


@final
@dataclass(frozen=True)
class Caps:
    """How large one cell may be.

    Args:
        characters: most characters of a text.
        pixels: most pixels of a picture, width x height.
        audio_seconds: longest recording.
        file_bytes: largest file that is fetched.
        url_hosts: where files may be fetched from (`name`, or `name:port`); none: from nowhere.
        url_seconds: how long fetching one may take.
        url_files: most files that are fetched for one request, because all of them are held in memory.
        written_tokens: longest text that a request may ask a network to write.
    """

    characters: int = 1_000_000
    pixels: int = 50_000_000
    audio_seconds: float = 3600.0
    file_bytes: int = 10_000_000
    url_hosts: tuple[str, ...] = ()
    url_seconds: float = 10.0
    url_files: int = 16
    written_tokens: int = 4096


async def admitted(rows: Sequence[Row], files: Sequence[str], caps: Caps, in_pool: InPool) -> Sequence[Row]:
    """Return rows whose files are bytes, every cell within its cap.

    Args:
        rows: cells by column; a file is bytes, a data: URL or a URL.
        files: the columns that hold files.
        caps: how large a cell may be.
        in_pool: runs a function outside of the event loop, for what takes time.

    Raises:
        RequestError: a cell is too large (status 413), is no file, or cannot be fetched.
    """
    for number, row in enumerate(rows, start=1):
        for name, cell in row.items():
            if isinstance(cell, str) and len(cell) > caps.characters and name not in files:
                raise RequestError(
                    f"Row {number}: '{short(name)}' has {len(cell):,} characters.",
                    status=413,
                    allowed=f"Allowed: {caps.characters:,}.",
                    hint="The operator raises it with: headstart serve --max-characters N",
                )
    held = [(number, name) for number, row in enumerate(rows) for name in files if not is_blank(row.get(name))]
    if not held:
        return rows
    settled = [dict(row) for row in rows]
    await _fetch(settled, held, caps)
    cells = [(f"Row {number + 1}: '{short(name)}'", settled[number][name]) for number, name in held]
    opened = await in_pool(_opened, cells, caps)
    for (number, name), data in zip(held, opened, strict=True):
        settled[number][name] = data
    return settled


def check_written(options: Mapping[str, Any], caps: Caps) -> None:
    """Raise RequestError (status 413) where a longer text is asked for than a network may be asked to write."""
    asked = options.get("max_tokens")
    if isinstance(asked, (int, float)) and asked > caps.written_tokens:
        raise RequestError(
            f"'max_tokens' is {asked:,}.",
            status=413,
            allowed=f"Allowed: {caps.written_tokens:,}.",
            hint="The operator raises it with: headstart serve --max-tokens N",
        )


async def _fetch(rows: list[Row], held: Sequence[tuple[int, str]], caps: Caps) -> None:
    """Put the bytes of files that are named by URL in place."""
    few = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, name: str) -> None:
        async with few:
            rows[number][name] = await asyncio.to_thread(
                fetch, rows[number][name], caps.url_hosts, most_bytes=caps.file_bytes, seconds=caps.url_seconds
            )

    wanted = [(number, name) for number, name in held if is_url(rows[number][name])]
    if len(wanted) > caps.url_files:
        raise RequestError(
            f"The request names {len(wanted)} files by URL.",
            status=413,
            allowed=f"Allowed: {caps.url_files}.",
            hint="Send them in several requests, or their contents.",
        )
    if wanted:
        await asyncio.gather(*(one(number, name) for number, name in wanted))


def _opened(cells: Sequence[tuple[str, Any]], caps: Caps) -> list[bytes]:
    return [_file(cell, where, caps) for where, cell in cells]


def _file(cell: Any, where: str, caps: Caps) -> bytes:
    data = _bytes(cell, where)
    if is_sound(data):
        _check_length(data, where, caps)
    else:
        _check_pixels(data, where, caps)
    return data


def _bytes(cell: Any, where: str) -> bytes:
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str) and cell.startswith("data:"):
        head, _, body = cell.partition(",")
        if head.endswith(";base64"):
            return from_base64(body, where)
    shown = f"'{short(cell)}'" if isinstance(cell, str) else kind(cell)
    raise RequestError(
        f"{where} is {shown}.", allowed="A file is sent as its content: data:image/jpeg;base64,…, or as bytes."
    )


def from_base64(text: str, where: str) -> bytes:
    """Return the bytes of base64.

    Raises:
        RequestError: it is none.
    """
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"{where} is not valid base64.", hint="Standard base64, with its padding.") from None


def is_sound(data: bytes) -> bool:
    """Return whether a file begins as recordings do.

    >>> is_sound(b"RIFF....WAVEfmt "), is_sound(b"RIFF....WEBPVP8 ")
    (True, False)
    """
    return data.startswith(SOUNDS) or (data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE")


def _check_pixels(data: bytes, where: str, caps: Caps) -> None:
    """Refuse a picture that is too large, which its first bytes say; what is no picture the model refuses."""
    images = require("PIL.Image", "image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", images.DecompressionBombWarning)
            with images.open(io.BytesIO(data)) as opened:
                width, height = opened.size
    except images.DecompressionBombError:
        width, height = caps.pixels + 1, 1
    except Exception:  # Pillow's readers raise whatever a damaged file leads them to.
        return
    if width * height > caps.pixels:
        raise RequestError(
            f"{where} is a picture of more than {caps.pixels:,} pixels.",
            status=413,
            hint="Make it smaller; the operator raises the limit with: headstart serve --max-pixels N",
        )


def _check_length(data: bytes, where: str, caps: Caps) -> None:
    """Refuse a recording that is too long; what is no recording the model refuses."""
    sounds = require("soundfile", "audio")
    try:
        with sounds.SoundFile(io.BytesIO(data)) as opened:
            most = caps.audio_seconds * opened.samplerate
            length = opened.frames
            if not 0 <= length < UNKNOWN:
                length = _counted(opened, most)
    except Exception:  # libsndfile's errors, for files that the model refuses with its own words.
        return
    if length > most:
        raise RequestError(
            f"{where} is a recording of more than {caps.audio_seconds:g} seconds.",
            status=413,
            hint="Cut it into parts; the operator raises the limit with: headstart serve --max-audio-seconds N",
        )


def _counted(opened: Any, most: float) -> int:
    length = 0
    while length <= most and (found := len(opened.read(BLOCK, dtype="float32"))):
        length += found
    return length
