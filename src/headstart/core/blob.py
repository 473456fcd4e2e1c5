"""Cells that are files: a picture or a recording, read when it is needed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.core.errors import DataError

LARGEST = 256 << 20
"""Bytes that one file may have."""


@dataclass(frozen=True)
class Blob:
    """A file's content, not read yet.

    Args:
        name: what the user wrote in the cell, or the file's path within its folder or archive.
        open: returns its bytes; may raise OSError.
    """

    name: str
    open: Callable[[], bytes] = field(repr=False, compare=False)

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            DataError: it is not there or cannot be read.
        """
        try:
            return self.open()
        except OSError as error:
            raise DataError(f"'{self.name}' cannot be read: {error.strerror or error}.") from error

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def of_file(path: Path, name: str = "") -> Blob:
        """Return the blob of a file on this machine."""
        return Blob(name or str(path), lambda: _file(path))


def _file(path: Path) -> bytes:
    if path.stat().st_size > LARGEST:
        raise DataError(f"'{path}' is larger than {LARGEST >> 20} MB.", hint="Give a smaller file.")
    return path.read_bytes()


def content(cell: Any) -> bytes:
    """Return the bytes that a cell stands for: a Blob, bytes, a `{"bytes": …}` record, or a data: URL.

    A plain text is not opened as a path: over HTTP it would let a caller read the server's files. Who may name paths
    (the command line, a table's own folder) turns them into Blobs first.

    Raises:
        DataError: the cell holds none of these.
    """
    if isinstance(cell, Blob):
        return cell.read()
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    if isinstance(cell, dict) and cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    if isinstance(cell, str) and cell.startswith("data:"):
        head, _, body = cell.partition(",")
        if head.endswith(";base64"):
            try:
                return base64.b64decode(body, validate=True)
            except (binascii.Error, ValueError) as error:
                raise DataError("A data: URL is not valid base64.") from error
    shown = cell if isinstance(cell, str) else type(cell).__name__
    raise DataError(
        f"'{str(shown)[:80]}' is not a file's content.",
        allowed="Files come as a data: URL (data:image/jpeg;base64,…) or as bytes.",
    )
