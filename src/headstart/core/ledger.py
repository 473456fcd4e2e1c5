"""The Ledger noun and contract: an append-only record of runs, predictions, labels and decisions."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Run:
    """Something that was done with a model: it was fitted, evaluated, served.

    Args:
        id: a time-ordered id.
        ts: when, in seconds since 1970.
        verb: `fit`, `evaluate`, `serve`, ….
        model: the model's name.
        model_version: its version.
        detail: what else is known, as JSON.
    """

    id: str
    ts: float
    verb: str
    model: str
    model_version: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer to one row, for one target. What is not known is None.

    Args:
        id: a time-ordered id of its own.
        ts: when it was answered, in seconds since 1970.
        request_id: the request's id; live, canary and shadow answers to one request share it.
        row: the row's number within its request, from 0.
        route: the path that was asked.
        model: the model's name.
        model_version: its version.
        variant: `live`, `canary` or `shadow`.
        target: the column that was predicted; empty for a network that answers by itself.
        caller: the name of the API key.
        input_mac: HMAC-SHA256 of the input.
        subject_mac: HMAC of whom it is about, for requests of erasure.
        input_ref: the input as JSON, only where inputs are kept.
        pred: what was predicted: a text, or JSON.
        conf_raw: the score before calibration.
        conf: the calibrated probability that it is right.
        probs: float16 probabilities of the labels.
        ood: how far the input is from the known ones, as a quantile.
        emb: float16 embedding, for a sampled share.
        decision: `auto`, `defer`, `fallback` or `error`.
        reason: why.
        certificate_id: which guarantee allowed it.
        audit_p: the probability with which it was chosen for an audit.
        audit_sel: 1 where it was chosen.
        grp: segments, as JSON.
        queue_ms: milliseconds of waiting for the model.
        latency_ms: milliseconds from request to answer.
        batch_size: rows that went to the model together.
        tokens: tokens read and written.
        cost_micro: cost in millionths of the currency.
        cost_rate_id: by which price list.
        pii_hits: personal data found in the input.
        error_code: the status, where it failed.
    """

    id: str
    ts: float
    request_id: str
    row: int
    route: str
    model: str
    model_version: str
    variant: str = "live"
    target: str = ""
    caller: str = ""
    input_mac: bytes | None = None
    subject_mac: bytes | None = None
    input_ref: str | None = None
    pred: str | None = None
    conf_raw: float | None = None
    conf: float | None = None
    probs: bytes | None = None
    ood: float | None = None
    emb: bytes | None = None
    decision: str = "auto"
    reason: str | None = None
    certificate_id: str | None = None
    audit_p: float = 0.0
    audit_sel: int = 0
    grp: str | None = None
    queue_ms: float | None = None
    latency_ms: float | None = None
    batch_size: int | None = None
    tokens: int | None = None
    cost_micro: int | None = None
    cost_rate_id: str | None = None
    pii_hits: int | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """What was right for one prediction, as somebody said; a later label for the same prediction supersedes it.

    Args:
        id: made of the prediction's id and the label, so that the same label sent twice is one.
        ts: when it arrived, in seconds since 1970.
        prediction_id: the prediction that it is for.
        label: what was right: a text, or JSON.
        source: `audit_uniform`, `audit_targeted`, `human_review`, `outcome` or `complaint`.
        observed_ts: when it became known.
        annotator: who said so.
        minutes: how long that took.
        supersedes: the id of the label that this one corrects.
    """

    id: str
    ts: float
    prediction_id: str
    label: str
    source: str = "outcome"
    observed_ts: float | None = None
    annotator: str | None = None
    minutes: float | None = None
    supersedes: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that an operator, or a rule, changed: a version was promoted, a key was used to load a model.

    Args:
        id: a time-ordered id.
        ts: when, in seconds since 1970.
        kind: `load`, `unload`, `rollout`, `promote`, `rollback`, ….
        subject: what was changed.
        actor: who did it.
        result: `done`, or why not.
        evidence: what it was based on, as JSON.
    """

    id: str
    ts: float
    kind: str
    subject: str
    actor: str
    result: str = "done"
    evidence: str | None = None


Record = Run | Prediction | Label | Decision
KINDS: tuple[type[Record], ...] = (Run, Prediction, Label, Decision)
"""What a ledger holds."""


class Ledger(ABC):
    """One open store of records (one file in `ledgers/`).

    Records are facts: they are appended and, when they are old, forgotten; none is ever changed. One thread uses it.
    """

    @classmethod
    @abstractmethod
    def claims(cls, place: str) -> bool:
        """Return whether `place` (a path or URL) names a ledger of this kind."""

    @classmethod
    @abstractmethod
    def open(cls, place: str) -> Self:
        """Open the ledger at `place`, making it where there is none, and bring an older one up to date.

        Raises:
            UsageError: it cannot be a ledger, or was written by a newer headstart.
            ResourceError: the disk is full, or it cannot be reached now.
        """

    @abstractmethod
    def append(self, records: Sequence[Record]) -> int:
        """Append records, all or none, and return how many were new; one whose id is there already is left out.

        When it returns, they outlive the end of this process.

        Raises:
            ResourceError: it cannot be done now; the same call may succeed later.
            DataError: a record cannot be kept at all.
        """

    @abstractmethod
    def read(
        self,
        kind: type[Record],
        *,
        where: Mapping[str, Any] | None = None,
        since: float = 0.0,
        until: float = float("inf"),
        newest: bool = False,
        limit: int | None = None,
    ) -> Iterator[Any]:
        """Yield the records of one kind in the order of their time.

        Args:
            kind: Run, Prediction, Label or Decision.
            where: values that fields must have.
            since: from this time on, in seconds since 1970.
            until: before this time.
            newest: the newest first.
            limit: how many at most.

        Raises:
            ResourceError: it cannot be reached now.
        """

    @abstractmethod
    def forget(self, before: float, limit: int = 1000) -> int:
        """Delete at most `limit` predictions that are older, with their labels, and return how many predictions.

        Raises:
            ResourceError: it cannot be done now.
        """

    @abstractmethod
    def close(self) -> None:
        """Close it; what was appended is there."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_last = [0, 0]
_lock = threading.Lock()


def new_id() -> str:
    """Return a UUID of version 7 (RFC 9562): unique, and within one process in the order of time as a text.

    >>> first, second = new_id(), new_id()
    >>> len(first), first[14], first < second
    (36, '7', True)
    """
    with _lock:
        now = time.time_ns() // 1_000_000
        # Within one millisecond the first random part counts up.
        fresh = now > _last[0]
        _last[:] = (now, int.from_bytes(os.urandom(2)) >> 5) if fresh else (_last[0], _last[1] + 1)
        if _last[1] > 0xFFF:
            _last[:] = _last[0] + 1, 0
        stamp, count = _last
    tail = int.from_bytes(os.urandom(8)) & (2**62 - 1) | 2**63
    digits = f"{stamp << 16 | 0x7000 | count:016x}{tail:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
