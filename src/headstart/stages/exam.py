"""Exam: judge the answers that a network gives by itself, and what tuning has changed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart import pipelines
from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.dataset import table_rows, take_rows
from headstart.core.gpu import machine
from headstart.core.metrics import bounded
from headstart.core.objective import Objective
from headstart.core.progress import Progress, Quiet
from headstart.core.source import Table
from headstart.core.threads import core_count

AT_ONCE = 32
"""Rows that are answered between two reports of progress."""
DRAWS, LEAST_DRAWS, LONGEST = 200, 20, 10.0
"""How often rows are drawn anew for an interval, how often at the least, and the seconds after which it is enough."""
SINGLES = 12
"""Rows whose time is taken one by one."""
Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Sat:
    """How a network did: all measures; its answers; and the primary measure for rows drawn anew, (draws,), or None."""

    figures: Mapping[str, Any]
    records: Records
    drawn: np.ndarray | None


@dataclass(frozen=True)
class Exam:
    """Rows by which networks are judged.

    Args:
        objective: what is judged.
        table: the rows.
        seed: of what is drawn.
    """

    objective: Objective
    table: Table
    seed: int

    def asked(self) -> Table:
        """Return the rows that are answered: all, or some by chance where answers take long."""
        most, rows = self.objective.answered, table_rows(self.table)
        if not most or rows <= most:
            return self.table
        return take_rows(self.table, np.sort(np.random.default_rng(self.seed).permutation(rows)[:most]))

    def records(self, network: Network, session: Session, progress: Progress, label: str = "answering") -> Records:
        """Return the pipeline's answers to the rows of `asked`; none where they are not judged."""
        inputs = self.objective.inputs(self.asked())
        pipeline = pipelines.registry.get(network.use)()
        options = pipeline.settle(dict(self.objective.options))
        found: list[Mapping[str, Any]] = []
        with progress.bar(label, len(inputs)) as bar:
            for start in range(0, len(inputs), AT_ONCE):
                some = inputs[start : start + AT_ONCE]
                found += pipeline.run(network, session, some, options)
                bar.advance(len(some))
        return found

    def score(self, network: Network, session: Session) -> float:
        """Return how good a network is by the objective's primary measure; higher is better."""
        found = self.objective.measure(network, session, self.table, self.seed)
        if self.objective.primary not in found:
            found = self.objective.judge(self.records(network, session, Quiet()), self.asked())
        value = found[self.objective.primary]
        if value is None or not math.isfinite(value):
            return -math.inf
        return float(value) if self.objective.higher else -float(value)

    def sat(self, network: Network, session: Session, progress: Progress) -> Sat:
        """Return how a network does, with an interval of the primary measure."""
        records = self.records(network, session, progress, "judging")
        judged = self.objective.judge(records, self.asked())
        measured = self.objective.measure(network, session, self.table, self.seed)
        drawn = measured.pop("_drawn", None)
        drawn = None if drawn is None else np.array(drawn)
        found, name = {**judged, **measured}, f"{self.objective.primary}_ci"
        if name not in found and self.objective.primary in judged:
            found[name] = bounded(self._drawn([records])[:, 0])
        return Sat(found, records, drawn)

    def gain(self, before: Sat, after: Sat) -> list[float] | None:
        """Return the 95 % interval of what is gained, the same rows drawn anew for both; None where it is not known."""
        drawn = self.drawn(before, after)
        if drawn is None:
            return None
        first, second = drawn.T
        return bounded(second - first if self.objective.higher else first - second)

    def drawn(self, before: Sat, after: Sat) -> np.ndarray | None:
        """Return the primary measure of both (draws, 2), the same rows drawn anew for both; None where unknown."""
        if before.drawn is not None and after.drawn is not None and len(before.drawn) == len(after.drawn):
            return np.stack([before.drawn, after.drawn], axis=1)
        if self.objective.primary in self.objective.judge(after.records, self.asked()):
            return self._drawn([before.records, after.records])
        return None

    def _drawn(self, answers: Sequence[Records]) -> np.ndarray:
        """Return the primary measure of each set of answers, (draws, sets), rows drawn anew each time."""
        asked, rng, started = self.asked(), np.random.default_rng(self.seed), time.monotonic()
        rows = table_rows(asked)
        drawn: list[list[float]] = []
        while len(drawn) < DRAWS and (len(drawn) < LEAST_DRAWS or time.monotonic() - started < LONGEST):
            chosen = rng.integers(0, rows, rows)
            table = take_rows(asked, chosen)
            judged = [self.objective.judge([each[row] for row in chosen], table) for each in answers]
            drawn.append([float(each[self.objective.primary]) for each in judged])
        return np.array(drawn)


def speed(exam: Exam, network: Network, session: Session, precision: str, hourly_price: float) -> dict[str, Any]:
    """Return latency of single rows, throughput, and the cost of 1,000 answers at full load; nothing of no answers.

    Args:
        hourly_price: price of one hour of this machine; the currency is the reader's.
    """
    inputs = exam.objective.inputs(exam.asked())
    pipeline = pipelines.registry.get(network.use)()
    options = pipeline.settle(dict(exam.objective.options))
    known = {
        "threads": core_count(),
        "precision": precision,
        "machine": f"{machine()}, {core_count()} cores",
        "backbone_bytes": network.backbone.size,
        "hourly_price": hourly_price,
    }
    if not inputs:
        return known
    some = [inputs[each] for each in np.linspace(0, len(inputs) - 1, min(SINGLES, len(inputs))).astype(int)]
    pipeline.run(network, session, some[:1], options)
    single = [_seconds(lambda one=one: pipeline.run(network, session, [one], options)) for one in some]
    rate = len(some) / _seconds(lambda: pipeline.run(network, session, some, options))
    return known | {
        "latency_ms": {"p50": 1000 * float(np.median(single)), "p95": 1000 * float(np.quantile(single, 0.95))},
        "throughput_rows_per_s": rate,
        "cost_per_1000": hourly_price / 3600 / rate * 1000,
    }


def _seconds(run: Any) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
