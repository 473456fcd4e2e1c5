"""Keys: make, list, replace and revoke the API keys of a server."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headstart.core.errors import UsageError, listed, nearest
from headstart.server.protection.keys import Key, read_keys, write_keys

UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def add_key(
    file: Path | str,
    name: str,
    *,
    scopes: Sequence[str] = ("predict",),
    models: Sequence[str] = (),
    expires: str = "",
    requests_per_second: float = 0.0,
    rows_per_second: float = 0.0,
    burst: float = 2.0,
) -> dict[str, Any]:
    """Add a key to a file, which is made where there is none, and return it; its text can be had only now.

    Args:
        file: the file of keys, which only its owner can read.
        name: whose key it is.
        scopes: what it allows: `predict`, `feedback`, `metrics`, `admin`.
        models: the models that it may ask; all where there are none.
        expires: a span such as `90d`, or a date such as `2027-01-31`; never where empty.
        requests_per_second: how often it may ask; 0 means as often as it likes.
        rows_per_second: how many rows it may ask for; 0 means as many as it likes.
        burst: for how many seconds' worth of either it may ask at once.

    Raises:
        UsageError: there is a key of that name, or a value cannot be used.
    """
    with _changed(Path(file), make=True) as keys:
        if any(each.name == name for each in keys):
            raise UsageError(
                f"There is a key '{name}' already.", hint=f"To replace it, type: headstart keys rotate {file} {name}"
            )
        key, text = Key.make(
            name,
            scopes=tuple(scopes),
            models=tuple(models),
            expires=until(expires),
            requests_per_second=requests_per_second,
            rows_per_second=rows_per_second,
            burst=burst,
        )
        keys.append(key)
    return {**_shown(key), "key": text}


def list_keys(file: Path | str) -> list[dict[str, Any]]:
    """Return the keys of a file, without what is secret.

    Raises:
        UsageError: the file cannot be used.
    """
    return [_shown(each) for each in read_keys(Path(file))]


def rotate_key(file: Path | str, name: str, *, grace: str = "1d") -> dict[str, Any]:
    """Add a new key that allows the same, and let the old one expire; return the new one.

    Args:
        file: the file of keys.
        name: whose key it is.
        grace: how long the old one stays valid, such as `12h`; `0` means not at all.

    Raises:
        UsageError: there is no such key, or a value cannot be used.
    """
    ends = time.time() if grace == "0" else until(grace)
    with _changed(Path(file)) as keys:
        newest = max(_named(keys, name, file), key=lambda each: each.created)
        lasting = newest.expires if not 0 < newest.expires <= time.time() else 0.0
        made, text = Key.make(name)
        fresh = replace(newest, id=made.id, hash=made.hash, created=made.created, expires=lasting)
        keys[:] = [
            replace(each, expires=min(each.expires or ends, ends)) if each.name == name else each for each in keys
        ]
        keys[:] = [each for each in keys if each.name != name or not each.expired(time.time())]
        keys.append(fresh)
    return {**_shown(fresh), "key": text}


def revoke_key(file: Path | str, name: str) -> int:
    """Remove the keys of a name, and return how many there were; a running server notices within a second.

    Raises:
        UsageError: there is no such key.
    """
    with _changed(Path(file)) as keys:
        gone = _named(keys, name, file)
        keys[:] = [each for each in keys if each.name != name]
    return len(gone)


def until(text: str) -> float:
    """Return the time, in seconds since 1970, that a span from now or a date stands for; 0 for an empty text.

    >>> until("2027-01-31")
    1801353600.0

    Raises:
        UsageError: it is neither, or has passed.
    """
    if not text:
        return 0.0
    if match := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        return time.time() + int(match[1]) * UNITS[match[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"'{text}' is no time.", allowed="A span such as 12h, 90d or 4w, or a date: 2027-01-31"
        ) from None
    stamp = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if stamp <= time.time():
        raise UsageError(f"'{text}' has passed.", allowed="A time to come.")
    return stamp


@contextmanager
def _changed(path: Path, make: bool = False) -> Iterator[list[Key]]:
    """Yield the keys of a file to be changed, and write them; whoever else wants to change it waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The folder is locked, not the file, for the file is replaced.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = [] if make and not path.exists() else read_keys(path)
        yield keys
        write_keys(path, keys)
    finally:
        os.close(folder)


def _named(keys: Sequence[Key], name: str, file: Path | str) -> list[Key]:
    found = [each for each in keys if each.name == name]
    if not found:
        names = sorted({each.name for each in keys})
        raise UsageError(
            f"There is no key '{name}' in '{file}'.", allowed=f"Keys: {listed(names)}.", hint=nearest(name, names)
        )
    return found


def _shown(key: Key) -> dict[str, Any]:
    return {
        "name": key.name,
        "id": key.id,
        "scopes": list(key.scopes),
        "models": list(key.models),
        "created": _date(key.created),
        "expires": _date(key.expires),
        "valid": not key.expired(time.time()),
        "requests_per_second": key.requests_per_second,
        "rows_per_second": key.rows_per_second,
        "burst": key.burst,
    }


def _date(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="seconds") if stamp else ""
