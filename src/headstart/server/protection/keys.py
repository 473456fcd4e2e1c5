"""API keys: a file of hashes, and who may do what with a key.

A key is `hs_ID_SECRET`: ten characters that name it and 256 random bits. The file holds the SHA-256 of the whole key.
A slow hash such as scrypt protects what people choose, which can be guessed; nobody guesses 256 random bits, and a slow
hash would cost every request milliseconds and hand strangers a way to keep the server busy.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, final

from headstart.core.errors import UsageError, listed, nearest
from headstart.core.files import atomic_file

SCOPES = ("predict", "feedback", "metrics", "admin")
"""What a key may allow."""
FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
KEY = re.compile(r"hs_([a-z0-9]{10})_[A-Za-z0-9_-]{43}")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
OTHERS = 0o037
"""The permissions that a file of keys may not have: others read it, or anybody but its owner writes it."""


@final
@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret.

    Args:
        name: whose it is; while a key is being replaced, two have the same name.
        id: the part of the key that is no secret.
        hash: the SHA-256 of the key, as 64 hexadecimal digits.
        scopes: what it allows, of `SCOPES`.
        models: the models that it may ask; all where there are none.
        created: when, in seconds since 1970.
        expires: until when it is valid; 0 means for ever.
        requests_per_second: how often it may ask; 0 means as often as it likes.
        rows_per_second: how many rows it may ask for; 0 means as many as it likes.
        burst: for how many seconds' worth of either it may ask at once.
    """

    name: str
    id: str
    hash: str
    scopes: tuple[str, ...] = ("predict",)
    models: tuple[str, ...] = ()
    created: float = 0.0
    expires: float = 0.0
    requests_per_second: float = 0.0
    rows_per_second: float = 0.0
    burst: float = 2.0

    def __post_init__(self) -> None:
        """Raise UsageError where a value cannot be used."""
        if not NAME.fullmatch(self.name):
            raise UsageError(
                f"'{self.name[:80]}' cannot be a key's name.", allowed="Letters, digits, and . _ @ - between them."
            )
        for scope in self.scopes:
            if scope not in SCOPES:
                raise UsageError(
                    f"There is no scope '{scope}'.", allowed=f"Scopes: {listed(SCOPES)}.", hint=nearest(scope, SCOPES)
                )
        if not self.scopes:
            raise UsageError(f"The key '{self.name}' allows nothing.", allowed=f"Scopes: {listed(SCOPES)}.")
        for name in ("requests_per_second", "rows_per_second", "burst"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name)}.", allowed="A number from 0 on.")

    def expired(self, now: float) -> bool:
        """Return whether it is no longer valid."""
        return 0 < self.expires <= now

    @classmethod
    def make(cls, name: str, **options: Any) -> tuple[Self, str]:
        """Return a new key and the text that its owner sends, which is kept nowhere.

        Raises:
            UsageError: an option cannot be used.
        """
        number = "".join(secrets.choice(LETTERS) for _ in range(10))
        text = f"hs_{number}_{secrets.token_urlsafe(32)}"
        return cls(name, number, digest(text), created=time.time(), **options), text


def digest(text: str) -> str:
    """Return the SHA-256 of a key's text, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """Return the keys of a file.

    Raises:
        UsageError: it is not there, others may read or change it, or it is not a file of keys.
    """
    try:
        mode = path.stat().st_mode
        if mode & OTHERS:
            raise UsageError(
                f"'{path}' is open to others (its mode is {mode & 0o777:o}).",
                allowed="Only its owner may change a file of keys, and only its owner or group read it.",
                hint=f"Type: chmod 600 {path}",
            )
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file '{path}'.", hint=f"Make one with: headstart keys add {path} NAME") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"'{path}' cannot be read: {error}.") from error
    try:
        if document["format"] != FORMAT:
            raise UsageError(f"'{path}' has format {document['format']!r}.", allowed=f"Format {FORMAT} is known.")
        if not isinstance(document["keys"], list):
            raise TypeError("keys")
        return [_key(each) for each in document["keys"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"'{path}' is not a file of keys.", hint="`headstart keys` writes such files.") from error


def _key(document: Mapping[str, Any]) -> Key:
    known = {each.name: document[each.name] for each in fields(Key) if each.name in document}
    for name in ("scopes", "models"):
        if name in known:
            if not isinstance(known[name], list):
                raise TypeError(name)
            known[name] = tuple(map(str, known[name]))
    for name in ("created", "expires", "requests_per_second", "rows_per_second", "burst"):
        if name in known:
            known[name] = float(known[name])
    key = Key(**known)
    if not re.fullmatch("[0-9a-f]{64}", key.hash):
        raise ValueError("hash")
    return key


def write_keys(path: Path, keys: Iterable[Key]) -> None:
    """Write a file of keys in one step, readable by its owner only.

    Raises:
        ResourceError: the disk is full; what stood there is untouched.
    """
    document = {"format": FORMAT, "keys": [asdict(each) for each in keys]}
    with atomic_file(path, 0o600) as part:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
