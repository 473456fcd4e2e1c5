"""Measure how fast a runtime answers on this machine, and what an answer costs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from headstart.core.dataset import Dataset, take_rows
from headstart.core.gpu import machine
from headstart.core.threads import core_count
from headstart.runtime import Runtime
from headstart.stages.prepare import Prepared

SINGLES = 40
"""Single rows timed."""
MANY = 128
"""Rows of the batch timed."""


def measure(runtime: Runtime, dataset: Dataset, prepared: Prepared, hourly_price: float) -> dict[str, Any]:
    """Return latency of single rows, throughput of many, and the cost of 1,000 predictions at full load.

    Args:
        hourly_price: price of one hour of this machine; the currency is the reader's.
    """
    rows = np.flatnonzero(prepared.test)
    table = {name: dataset.table[name] for name in runtime.columns}
    some = rows[np.linspace(0, len(rows) - 1, min(SINGLES, len(rows))).astype(int)]
    runtime.predict(take_rows(table, some[:2]))
    single = [_seconds(runtime, take_rows(table, [row])) for row in some]
    batch = take_rows(table, np.resize(rows, MANY))
    throughput = MANY / min(_seconds(runtime, batch) for _ in range(2))
    opened = prepared.opened
    return {
        "latency_ms": {"p50": 1000 * float(np.median(single)), "p95": 1000 * float(np.quantile(single, 0.95))},
        "throughput_rows_per_s": throughput,
        "threads": core_count(),
        "precision": ", ".join(dict.fromkeys(each.precision for each in opened.values())) or "f32",
        "machine": f"{machine()}, {core_count()} cores",
        "backbone_bytes": sum(each.network.backbone.size for each in opened.values()),
        "hourly_price": hourly_price,
        "cost_per_1000": hourly_price / 3600 / throughput * 1000,
    }


def _seconds(runtime: Runtime, table: dict[str, list[Any]]) -> float:
    started = time.perf_counter()
    runtime.predict(table)
    return time.perf_counter() - started
