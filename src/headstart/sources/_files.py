"""Paths to bytes and back: what the file sources share (no source itself; the registry skips the underscore)."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from headstart.core.errors import DataError, UsageError, listed, nearest
from headstart.core.files import atomic_file
from headstart.core.source import Table

USER_AND_PASSWORD = re.compile(r"(://[^/@:\s]*):[^/@\s]*@")
SECRET = re.compile(r"((?:password|passwd|pwd|token|secret|key)=)[^&;\s]+", re.IGNORECASE)


def shown(reference: Any) -> str:
    """Return how a reference is called in sentences and reports: quoted, without passwords; a frame by its type."""
    if not isinstance(reference, (str, os.PathLike)):
        return f"a {type(reference).__module__.partition('.')[0]} {type(reference).__name__}".replace("builtins ", "")
    name = str(reference)
    name = name if len(name) <= 300 else name[:300] + "…"
    name = SECRET.sub(r"\1***", USER_AND_PASSWORD.sub(r"\1:***@", name))
    return f"'{name}'"


def named(reference: Any, suffixes: Sequence[str]) -> bool:
    """Return whether `reference` is a path that ends in one of `suffixes`, which are lower case."""
    if not isinstance(reference, (str, os.PathLike)):
        return False
    name = str(reference)
    return "://" not in name and name[-16:].lower().endswith(tuple(suffixes))


def existing(reference: Any) -> Path:
    """Return the path of a file that is there.

    Raises:
        DataError: it is not there (the nearest name in that folder is suggested), or is no file.
    """
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    siblings = _names(path if path.is_dir() else path.parent)
    if path.is_dir():
        raise DataError(f"{shown(reference)} is a folder, not a file.", allowed=f"It holds {listed(siblings)}.")
    if os.path.exists(path):
        raise DataError(
            f"{shown(reference)} is not a regular file.", hint="Save it as a file first: it is read more than once."
        )
    if not os.path.isdir(path.parent):
        raise DataError(f"There is no file {shown(reference)}: its folder '{path.parent}' does not exist.")
    raise DataError(f"There is no file {shown(reference)}.", hint=nearest(path.name, siblings))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (OSError, ValueError):
        return []


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says while `path` is read into a DataError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"'{path}' is not a whole gzip file: {error}.", hint=f"Check it with: gzip --test '{path}'"
        ) from error
    except OSError as error:
        raise DataError(
            f"'{path}' cannot be read: {error.strerror or error}.", hint=f"See who may read it with: ls -l '{path}'"
        ) from error


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, through gzip where its name ends in `.gz`."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def destination(reference: Any) -> Path:
    """Return a path that a file can be written to.

    Raises:
        UsageError: it is a folder, or lies below a file.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        raise UsageError(f"{shown(reference)} is a folder.", hint="Give the name of a file.")
    above = next((each for each in path.absolute().parents if os.path.lexists(each)), None)
    if above is not None and not above.is_dir():
        raise UsageError(f"{shown(reference)} cannot be written: '{above}' is not a folder.")
    return path


@contextlib.contextmanager
def text_out(reference: Any) -> Iterator[TextIO]:
    """Open `reference` for writing UTF-8 text atomically, through gzip where it ends in `.gz`.

    Half a surrogate pair, which UTF-8 cannot hold, is written as `?`.
    """
    path = destination(reference)
    with atomic_file(path) as part, part.open("wb") as raw:
        binary: Any = raw
        if path.name.lower().endswith(".gz"):
            binary = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0)
        with io.TextIOWrapper(binary, encoding="utf-8", errors="replace", newline="") as text:
            yield text


def same_columns(columns: Sequence[str] | None, table: Table) -> list[str]:
    """Return the columns of a chunk that is to be written after others.

    Raises:
        DataError: they are not those of the first chunk.
    """
    if columns is not None and list(table) != list(columns):
        raise DataError(f"A chunk has the columns {listed(table)}; the first chunk had {listed(columns)}.")
    return list(table)
