"""How much the server takes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from headstart.server.queue.work import Budget
from headstart.server.requests.inputs import Caps


@final
@dataclass(frozen=True)
class Limits:
    """How much the server takes on.

    Args:
        body_bytes: longest request body.
        body_seconds: time in which a body must have arrived.
        rows: most rows in one request.
        budget: what fits into a batch.
        queue_batches: how many batches' worth of requests may wait for a model, a batch being what it answers in a
            tenth of a second; more are refused, and until nothing is refused any more one batch may wait.
        streams: how many texts are written side by side.
        decoding: how many requests may wait for a thread that decodes their files.
        stuck_seconds: how long one batch may take before the server says that it is dead.
        caps: how large one cell may be, and which hosts files may be fetched from.
    """

    body_bytes: int = 10_000_000
    body_seconds: float = 30.0
    rows: int = 10_000
    budget: Budget = field(default_factory=Budget)
    queue_batches: int = 3
    streams: int = 8
    decoding: int = 64
    stuck_seconds: float = 600.0
    caps: Caps = field(default_factory=Caps)
