"""All that stands between the network and the models, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from headstart.core.ledger import Ledger
from headstart.server.errors import Errors
from headstart.server.protection.access import (
    AccessLog,
    Audited,
    AuditLog,
    check_exposure,
    cors_options,
    loopback,
    tls_options,
)
from headstart.server.protection.guard import HEAD_SECONDS, Guard, timed
from headstart.server.protection.keyring import Keyed, Keyring, called, told_by
from headstart.server.protocols import registry
from headstart.server.record.journal import Journal
from headstart.server.record.tracing import Tracing, tracing

STANDARD_ERROR = "-"


@final
@dataclass(frozen=True)
class Protection:
    """How a server is to be protected.

    Args:
        keys: the file of API keys; none are asked for where it is empty.
        insecure: whether others may reach the server without a key.
        tls_cert: a PEM file; no TLS where it is empty.
        tls_key: its private key, where it is in another file.
        cors_origins: the web pages that browsers may let ask.
        access_log: a file for a JSON line about each request; `-` is standard error, and empty means none.
        audit_log: a file for a JSON line about each change that an operator makes; empty means standard error.
        head_seconds: in which the headers of a request must have arrived.
    """

    keys: Path | str = ""
    insecure: bool = False
    tls_cert: Path | str = ""
    tls_key: Path | str = ""
    cors_origins: Sequence[str] = ()
    access_log: Path | str = ""
    audit_log: Path | str = ""
    head_seconds: float = HEAD_SECONDS


@final
@dataclass(frozen=True)
class Protected:
    """What a server needs to be protected.

    Args:
        guard: the middleware of the app, the outermost first.
        admin_guard: that of the admin API.
        grpc_guard: that of the calls over gRPC.
        server_options: settings for uvicorn.
        warning: a sentence for the user, or empty.
        tracing: makes spans of requests and batches.
    """

    guard: Sequence[Middleware]
    admin_guard: Sequence[Middleware]
    grpc_guard: Sequence[Middleware]
    server_options: Mapping[str, Any] = field(repr=False)
    warning: str
    tracing: Tracing


@contextmanager
def protected(
    wanted: Protection, host: str, *, admin_host: str = "127.0.0.1", journal: Journal | None = None
) -> Iterator[Protected]:
    """Yield what protects a server that listens on `host`; logs are written to their end when the block is left.

    Args:
        wanted: how.
        host: the address that the server listens on.
        admin_host: that of the admin API.
        journal: whose ledger gets the operators' decisions, too.

    Raises:
        UsageError: a file cannot be used, or others could reach the server without a key.
        ResourceError: a log cannot be written.
    """
    options: dict[str, Any] = {"http": timed(AutoHTTPProtocol, wanted.head_seconds)}
    if wanted.tls_cert:
        options |= tls_options(wanted.tls_cert, wanted.tls_key or None)
    ring = Keyring(wanted.keys) if wanted.keys else None
    tls = bool(wanted.tls_cert)
    warnings = [
        check_exposure(each, keys=ring is not None, insecure=wanted.insecure, tls=tls) for each in (host, admin_host)
    ]
    respond = told_by(Errors([each() for each in registry.all().values()]))
    with ExitStack() as stack:
        spans = tracing()
        stack.callback(spans.close)
        log = None
        if wanted.access_log:
            log = AccessLog(None if wanted.access_log == STANDARD_ERROR else wanted.access_log)
            stack.callback(log.close)
        audit = AuditLog(wanted.audit_log or None)
        stack.callback(audit.close)
        guard, admin = (
            [Middleware(Guard, respond, log, tls=tls, local=ring is None and loopback(each))]
            for each in (host, admin_host)
        )
        # No web page reaches gRPC through its visitor's browser: there is no Host to look at.
        grpc = [Middleware(Guard, told_by(Errors()), log)]
        if spans:
            guard.insert(0, Middleware(spans.requests))
            grpc.insert(0, Middleware(spans.requests))
        if wanted.cors_origins:
            guard.append(Middleware(CORSMiddleware, **cors_options(wanted.cors_origins)))
        if ring is not None:
            guard.append(Middleware(Keyed, ring, respond))
            admin.append(Middleware(Keyed, ring, respond, lambda method, path: "admin"))
            grpc.append(Middleware(Keyed, ring, told_by(Errors()), called))
        admin.append(Middleware(Audited, audit, journal))
        yield Protected(guard, admin, grpc, options, next(filter(None, warnings), ""), spans)


@contextmanager
def keeping(
    open_ledger: Callable[[], Ledger], secret: bytes, *, store_inputs: bool = False, keep_days: float = 0.0
) -> Iterator[Journal]:
    """Yield a journal; what waits is written when the block is left.

    Args:
        open_ledger: opens the ledger, which is done once here, so that a wrong place is told at once.
        secret: the key of the inputs' HMAC.
        store_inputs: whether inputs are kept.
        keep_days: after how many days predictions are deleted; 0 means never.

    Raises:
        UsageError: it is not a ledger.
        ResourceError: it cannot be used.
    """
    open_ledger().close()
    journal = Journal(open_ledger, secret, store_inputs=store_inputs, keep_days=keep_days)
    try:
        yield journal
    finally:
        journal.close()
