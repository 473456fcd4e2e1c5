"""From answered rows to the ledger's records, without what was asked unless that is wanted."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import orjson

from headstart.core.blob import Blob
from headstart.core.errors import UsageError
from headstart.core.files import disk_errors
from headstart.core.ledger import Prediction, Record, new_id

CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


@final
@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """Rows that were answered together; nobody changes them any more.

    Args:
        request_id: the request's id.
        route: the path that was asked.
        model: the model's name.
        version: its version.
        rows: the inputs.
        answers: a record for each.
        targets: the columns that it predicts; none where a network answers by itself.
        variant: `live`, `canary` or `shadow`.
        caller: the API key's name.
        latency_ms: milliseconds from request to answer.
        queue_ms: milliseconds of waiting for the model.
        batch_size: rows that went to the model together.
        ts: when, in seconds since 1970.
    """

    request_id: str
    route: str
    model: str
    version: str
    rows: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]]
    targets: Sequence[str] = ()
    variant: str = "live"
    caller: str = ""
    latency_ms: float | None = None
    queue_ms: float | None = None
    batch_size: int | None = None
    ts: float = field(default_factory=time.time)

    def size(self) -> int:
        """Return about how many bytes the inputs keep in memory."""
        total = 0
        for row in self.rows:
            for cell in row.values():
                total += len(cell) if isinstance(cell, (str, bytes)) else getattr(cell, "nbytes", 16)
        return total


def records_of(answered: Answered, number: int, secret: bytes, store_inputs: bool) -> list[Record]:
    """Return the records of one answered row: one for each target.

    Args:
        answered: the rows that were answered together.
        number: which of them, from 0.
        secret: the key of the inputs' HMAC.
        store_inputs: whether the input itself is kept.
    """
    answer = answered.answers[number]
    given = orjson.dumps(answered.rows[number], default=_plain, option=CANONICAL)
    mac = hmac.digest(secret, given, "sha256")
    kept = given.decode() if store_inputs else None
    return [
        Prediction(
            new_id(),
            answered.ts,
            answered.request_id,
            number,
            answered.route,
            answered.model,
            answered.version,
            answered.variant,
            target,
            answered.caller,
            mac,
            input_ref=kept,
            pred=_told(answer, target, store_inputs),
            conf=answer.get(f"{target}_confidence"),
            decision="defer" if answer.get(f"{target}_automated") is False else "auto",
            reason="unknown" if answer.get(f"{target}_unknown") else None,
            queue_ms=answered.queue_ms,
            latency_ms=answered.latency_ms,
            batch_size=answered.batch_size,
        )
        for target in answered.targets or ("",)
    ]


def _told(answer: Mapping[str, Any], target: str, store_inputs: bool) -> str | None:
    """Return what was predicted; what a network wrote by itself may repeat its input, and is kept with it only."""
    told = answer.get(target) if target else answer if store_inputs else None
    if told is None or isinstance(told, str):
        return told
    return orjson.dumps(told, default=_plain, option=CANONICAL).decode()


def _plain(value: Any) -> Any:
    """Return what stands for a value that JSON does not have; files stand by their hash."""
    if isinstance(value, Blob):
        value = value.read()
    if isinstance(value, np.ndarray):
        value = value.tobytes()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"sha256:{hashlib.sha256(value).hexdigest()}"
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def secret_of(path: Path) -> bytes:
    """Return the key of the inputs' HMAC: HEADSTART_HMAC_KEY, else what stands in a file, which is made once (0600).

    Raises:
        UsageError: the key is too short, or others may read the file.
        ResourceError: the disk is full.
    """
    given = os.environ.get("HEADSTART_HMAC_KEY", "").encode()
    if not given:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                with os.fdopen(handle, "w") as file:
                    file.write(secrets.token_hex(32))
            if path.stat().st_mode & 0o077:
                raise UsageError(f"'{path}' holds a secret, and others may read it.", hint=f"Type: chmod 600 {path}")
            given = path.read_bytes().strip()
    if len(given) < 32:
        raise UsageError("The key of the inputs' HMAC is too short.", allowed="At least 32 characters.")
    return given
