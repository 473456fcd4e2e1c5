"""Unpack zip and tar files that may be hostile: nothing leaves the folder, and nothing is larger than agreed."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from headstart.core.errors import HubError
from headstart.core.files import atomic_folder

LARGEST = 50 << 30
"""Bytes that an archive may hold, unpacked."""
MOST = 100_000
"""Files that an archive may hold."""
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def unpack(archive: Path, to: Path, largest: int = LARGEST) -> Path:
    """Unpack an archive into the folder `to`, whole or not at all, and return it.

    Links, devices, absolute names and names with `..` are refused; so is more than `largest` bytes, whatever the
    archive itself says of its sizes.

    Raises:
        HubError: it is no archive, is damaged, or holds what may not be unpacked.
    """
    with atomic_folder(to) as part:
        left = largest
        try:
            for number, (name, file) in enumerate(_members(archive)):
                target = part.joinpath(*_safe(name, archive).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                left -= _copy(file, target, left)
                if left < 0 or number >= MOST:
                    raise HubError(
                        f"'{archive.name}' holds more than {largest:,} bytes or {MOST:,} files.",
                        hint="Unpack it by hand if you trust it.",
                    )
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
            raise HubError(f"'{archive.name}' cannot be unpacked: it is damaged or no archive.") from error
    return to


def _copy(file: IO[bytes], target: Path, most: int) -> int:
    copied = 0
    with target.open("wb") as out:
        while copied <= most and (chunk := file.read(1 << 20)):
            out.write(chunk)
            copied += len(chunk)
    return copied


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                # The upper half of the attributes is the Unix mode; 0o120000 is a link, whose content is its target.
                if (member.external_attr >> 16) & 0o170000 == 0o120000:
                    raise _refusal(member.filename, archive, "a link")
                if not member.is_dir():
                    with opened.open(member) as file:
                        yield member.filename, file
        return
    with tarfile.open(archive) as tar:
        for each in tar:
            if each.isdir():
                continue
            content = tar.extractfile(each) if each.isreg() else None
            if content is None:
                raise _refusal(each.name, archive, "a link or a device")
            yield each.name, content


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or not path.parts or "\0" in name:
        raise _refusal(name, archive, "a name that leads out of its folder")
    return path


def _refusal(name: str, archive: Path, what: str) -> HubError:
    return HubError(
        f"'{archive.name}' holds '{name[:80]}', {what}; it is not unpacked.",
        allowed="An archive of a model holds plain files within one folder.",
    )
