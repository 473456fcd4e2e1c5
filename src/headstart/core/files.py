"""Write files so that nothing is ever half-written: temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headstart.core.errors import HeadstartError, ResourceError, UsageError


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a refused write below `path` into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"The disk that holds '{path}' is full; nothing that was there has been changed.",
                hint="Free some space, or give another place with --out.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UsageError(
                f"'{path}' cannot be written: {error.strerror}.", hint="Give another place with --out."
            ) from error
        raise


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_file(path: Path | str, mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` in one step, else it is removed.

    Args:
        path: what is written.
        mode: its permissions, of which the process' umask takes away.

    Raises:
        ResourceError: the disk is full. What stood at `path` before is untouched.
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            os.chmod(part, mode & ~_umask())
            sync(part)
            os.replace(part, path)
            sync(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it takes the place of `path`, else it is removed.

    A folder that stood there before is moved aside first and removed last, so that a process killed at any
    moment leaves the old folder or the new one, whole; `recover_folder` finishes an interrupted exchange.
    """
    path = Path(os.path.abspath(path))
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            yield part
            os.chmod(part, 0o777 & ~_umask())
            for each in sorted(part.rglob("*")):
                sync(each)
            sync(part)
            old = path.with_name(f".{path.name}.old")
            if path.exists():
                os.replace(path, old)
            os.replace(part, path)
            sync(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def recover_folder(path: Path) -> None:
    """Put back the folder that an interrupted `atomic_folder` had moved aside."""
    old = path.with_name(f".{path.name}.old")
    if old.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, error: type[HeadstartError]) -> Any:
    """Read a JSON file, raising `error` with the place where it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise error(f"'{path}' cannot be read as JSON: {cause}.") from cause


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return headstart's cache folder: `HEADSTART_CACHE`, else the platform's cache folder."""
    chosen = os.environ.get("HEADSTART_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headstart"
