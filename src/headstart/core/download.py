"""Fetch files over HTTP: resumed after a cut, verified, by one process at a time, whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from headstart.core.blob import LARGEST
from headstart.core.errors import DataError, HubError, ResourceError
from headstart.core.files import disk_errors, sha256, sync
from headstart.core.http import Cut, Wanted, answer, persist
from headstart.core.offline import need_network
from headstart.core.progress import Bar, Progress, Quiet
from headstart.core.registry import require

SPARE = 50_000_000
"""Bytes of the disk that a download leaves free."""


def fetch(wanted: Wanted, to: Path, progress: Progress | None = None) -> Path:
    """Fetch a file to `to`, unless it is there already, and return where it is.

    What had arrived before a cut is kept beside it in a `.part` file and is not fetched again, if the server still
    has the same file. Several processes may ask for the same file at once: one fetches, the others wait.

    Raises:
        HubError: it cannot be had, or is not what it must be.
        ResourceError: the disk is too small for it.
    """
    if is_whole(wanted, to):
        return to
    need_network(wanted.what)
    with disk_errors(to), locked(to.with_name(f".{to.name}.lock")):
        if not is_whole(wanted, to):
            with contextlib.ExitStack() as stack:
                _Transfer(wanted, to, progress or Quiet(), stack).run()
    return to


def fetch_bytes(url: str, most: int = LARGEST) -> bytes:
    """Return the content of a file that a table names by its address, at most `most` bytes.

    Raises:
        DataError: it cannot be had, or is larger.
    """
    parts = urlsplit(url)
    # Neither a password nor a signature of the address is shown.
    shown = f"'{parts.scheme}://{parts.hostname}{parts.path}'"
    wanted = Wanted(url, shown, "download")

    def once() -> bytes:
        content = bytearray()
        with answer(wanted, {}) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > most:
                    raise DataError(f"{shown} is larger than {most >> 20} MB.", hint="Give a smaller file.")
        return bytes(content)

    try:
        need_network(shown)
        return persist(wanted, once)
    except HubError as error:
        raise DataError(error.problem, hint=error.hint) from error


def is_whole(wanted: Wanted, to: Path) -> bool:
    """Return whether the file is there and is what it must be."""
    if not to.is_file() or (wanted.size and to.stat().st_size != wanted.size):
        return False
    return not wanted.sha256 or sha256(to) == wanted.sha256


def need_space(what: str, size: int, folder: Path) -> None:
    """Raise ResourceError unless the disk that holds a folder has room for so many bytes.

    Raises:
        ResourceError: it has not.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if size + SPARE > free:
        raise ResourceError(
            f"{what} needs {size / 1e6:,.0f} MB, and the disk that holds '{folder}' has {free / 1e6:,.0f} MB left.",
            hint="Free some space (headstart models du shows what is kept), or move the cache folder.",
        )


@contextlib.contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold a lock between processes; it is freed when its holder ends, however it ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@final
class _Transfer:
    """One file on its way: what has arrived is in `part`, and `note` says which version of the file it is of."""

    def __init__(self, wanted: Wanted, to: Path, progress: Progress, stack: contextlib.ExitStack) -> None:
        self.wanted, self.to, self.progress, self.stack = wanted, to, progress, stack
        self.part, self.note = to.with_name(f".{to.name}.part"), to.with_name(f".{to.name}.etag")
        self.bar: Bar | None = None

    def run(self) -> None:
        """Fetch it and put it in its place."""
        kept = self.arrived() > 0
        persist(self.wanted, self.once)
        found = sha256(self.part) if self.wanted.sha256 else ""
        if found != self.wanted.sha256:
            self.part.unlink()
            if kept:
                # What was kept from an earlier time was of another file: begin again, once.
                return self.run()
            raise HubError(
                f"{self.wanted.what} arrived damaged: its SHA-256 is {found[:12]}…, not {self.wanted.sha256[:12]}….",
                hint="Run it again; if it happens again, the server or a proxy on the way changes the file.",
            )
        sync(self.part)
        os.replace(self.part, self.to)
        self.note.unlink(missing_ok=True)
        return sync(self.to.parent)

    def arrived(self) -> int:
        """Return how many bytes are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def once(self) -> bytes:
        """Fetch what is still missing, in one answer."""
        kept = self.arrived()
        if self.wanted.size and kept == self.wanted.size:
            return b""
        etag = self.note.read_text(encoding="utf-8") if self.note.exists() else ""
        headers = {"Range": f"bytes={kept}-", "If-Range": etag} if kept and etag else {}
        with answer(self.wanted, headers) as response:
            start = self.start_of(response, kept)
            if response.status_code == 416:
                raise Cut(0)
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdigit() else self.wanted.size
            self.check(total, start)
            found = response.headers.get("ETag", "")
            # A weak tag (W/) does not promise the same bytes, and so nothing can be resumed by it.
            self.note.write_text("" if found.startswith("W/") else found, encoding="utf-8")
            self.write(response, start, total)
        return b""

    def start_of(self, response: Any, kept: int) -> int:
        """Return where the answer begins in the file; what was kept is thrown away where it is of no use."""
        told = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status_code == 206 and told and int(told[1]) == kept:
            return kept
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        if response.status_code == 206:
            raise Cut(0)
        return 0

    def check(self, total: int, start: int) -> None:
        """Refuse a file of a wrong size, or one that the disk has no room for."""
        if total and self.wanted.size and total != self.wanted.size:
            raise HubError(
                f"{self.wanted.what} has {total:,} bytes on the server, not {self.wanted.size:,} as announced.",
                hint="Run it again; if it happens again, the server or a proxy on the way changes the file.",
            )
        need_space(self.wanted.what, total - start, self.to.parent)

    def write(self, response: Any, start: int, total: int) -> None:
        """Append the answer to what is there."""
        if self.bar is None:
            self.bar = self.stack.enter_context(self.progress.bar(self.wanted.what, total, "B"))
            self.bar.advance(start)
        with self.part.open("ab" if start else "wb") as file:
            try:
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    self.bar.advance(len(chunk))
            except require("httpx2", self.wanted.extra).TransportError as error:
                file.flush()
                raise Cut(self.arrived()) from error
        if total and self.arrived() != total:
            raise Cut(self.arrived())
