"""A zip or tar archive of pictures or recordings, read without unpacking it."""

from __future__ import annotations

import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, final

from headstart.core.blob import LARGEST, Blob
from headstart.core.errors import DataError, UsageError
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources._files import existing, shown
from headstart.sources._media import KINDS, kind_of_files, tables

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ALLOWED = "An archive holds pictures or recordings, in a folder for each class or beside each other."


@final
class Archive(Source):
    """A .zip or .tar archive of pictures or recordings, one row each: the same columns as a folder of them.

    Members are read when they are needed, never unpacked to the disk, so their names can reach no other place.
    """

    reads = "a .zip or .tar archive of pictures or recordings"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is named like an archive."""
        return isinstance(reference, (str, os.PathLike)) and str(reference).lower().endswith(SUFFIXES)

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield one row for each picture or recording.

        Raises:
            DataError: it is no archive, is damaged, or holds no such file.
        """
        path = existing(reference)
        try:
            members = _zipped(path) if str(path).lower().endswith(".zip") else _tarred(path)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{shown(reference)} is damaged or no archive: {error}.", allowed=ALLOWED) from error
        files = [(PurePosixPath(name), blob) for name, blob in sorted(members)]
        files = [
            (name, blob) for name, blob in files if not any(part.startswith((".", "__MACOSX")) for part in name.parts)
        ]
        kind = kind_of_files([name for name, _ in files])
        if not kind:
            known = [suffix for suffixes in KINDS.values() for suffix in suffixes]
            raise DataError(
                f"{shown(reference)} holds no pictures or recordings.",
                allowed=f"{ALLOWED} Files end in {', '.join(known)}.",
                hint="Unpack it first, and name the table that is in it.",
            )
        yield from tables(files, kind, rows)

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Raise UsageError: an archive is only read."""
        raise UsageError(f"{shown(reference)} is an archive; tables are written to files.", hint="Such as out.csv.")


def _zipped(path: Path) -> list[tuple[str, Blob]]:
    archive, lock = zipfile.ZipFile(path), threading.Lock()

    def reader(member: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            _check(member.filename, member.file_size)
            try:
                with lock:
                    return archive.read(member)
            except (zipfile.BadZipFile, RuntimeError, EOFError, NotImplementedError) as error:
                raise DataError(f"'{member.filename}' in {path.name} cannot be read: {error}.") from error

        return read

    return [(each.filename, Blob(each.filename, reader(each))) for each in archive.infolist() if not each.is_dir()]


def _tarred(path: Path) -> list[tuple[str, Blob]]:
    archive, lock = tarfile.open(path), threading.Lock()  # noqa: SIM115  (its members are read later)

    def reader(member: tarfile.TarInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            _check(member.name, member.size)
            try:
                with lock:
                    file = archive.extractfile(member)
                    return file.read() if file else b""
            except (tarfile.TarError, EOFError, OSError) as error:
                raise DataError(f"'{member.name}' in {path.name} cannot be read: {error}.") from error

        return read

    return [(each.name, Blob(each.name, reader(each))) for each in archive.getmembers() if each.isreg()]


def _check(name: str, size: int) -> None:
    if size > LARGEST:
        raise DataError(f"'{name}' is larger than {LARGEST >> 20} MB.", hint="Give a smaller file.")
