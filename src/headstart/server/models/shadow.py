"""Shadows: versions that are asked what the live one is asked, and whose answers are only compared."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from headstart.server.models.served import Served
from headstart.server.models.shelf import Shelf
from headstart.server.queue.batching import Batcher, Busy
from headstart.server.queue.work import Answer, Row
from headstart.server.record.metrics import Version

log = logging.getLogger("headstart.server")

WAITING = 8
"""Requests whose copies may wait; more are dropped, so that a slow shadow takes nothing from anybody."""


@final
class Shadow:
    """Copies what has been answered to the shadow version, when the model has nothing else to do.

    Args:
        batcher: the queue.
        shelf: which version is whose shadow.
        measures: what counts a version's rows.
        note: is told of a shadow's answers, as a journal is.
    """

    def __init__(
        self, batcher: Batcher, shelf: Shelf, measures: Callable[[Served], Version], note: Callable[..., None]
    ) -> None:
        self._batcher, self._shelf, self._measures, self._note = batcher, shelf, measures, note
        self._tasks: set[asyncio.Task[None]] = set()
        self._told = ""

    def follow(
        self, served: Served, rows: Sequence[Row], options: Mapping[str, Any], answers: Sequence[Answer]
    ) -> None:
        """Ask the shadow of a version the same, later, and count where it does not agree."""
        entry = self._shelf.entries.get(served.name)
        if entry is None or not entry.shadow or served.version != entry.live:
            return
        shadow = entry.versions[entry.shadow]
        if len(self._tasks) >= WAITING:
            self._measures(shadow).shadow("dropped").inc(len(rows))
            return
        task = asyncio.ensure_future(self._compared(shadow, rows, options, answers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compared(
        self, shadow: Served, rows: Sequence[Row], options: Mapping[str, Any], answers: Sequence[Answer]
    ) -> None:
        count, started = self._measures(shadow).shadow, time.perf_counter()
        shadow.users += 1
        try:
            work = await asyncio.to_thread(shadow.prepare, rows, options)
            others = await self._batcher.submit(work, lane_of(shadow.name), background=True)
            for given, other in zip(answers, others, strict=True):
                count("agree" if agree(given, other) else "disagree").inc()
            self._note(shadow, rows, others, time.perf_counter() - started, "shadow")
        except Busy:
            count("dropped").inc(len(rows))
        except Exception as error:
            count("failed").inc(len(rows))
            if str(error) != self._told:
                self._told = str(error)
                log.warning("The shadow %s of '%s' cannot answer.", shadow.version, shadow.name, exc_info=error)
        finally:
            shadow.users -= 1


def lane_of(name: str) -> str:
    """Return the name of the lane in which copies for the shadow of a model wait."""
    return f"{name} (shadow)"


def agree(given: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two answers say the same: their words, or, where they have none, their numbers within 1 %.

    What only one of them has is not compared.

    >>> agree({"label": "a", "label_confidence": 0.91}, {"label": "a", "label_confidence": 0.6})
    True
    >>> agree({"price": 100.0}, {"price": 100.5}), agree({"price": 100.0}, {"price": 120.0})
    (True, False)
    """
    both = {name: (value, other[name]) for name, value in given.items() if name in other}
    words = [pair for pair in both.values() if not any(isinstance(each, float) for each in pair)]
    return all(one == two for one, two in words) if words else all(_near(one, two) for one, two in both.values())


def _near(one: Any, two: Any) -> bool:
    return isinstance(one, float) and isinstance(two, (int, float)) and abs(one - two) <= 0.01 * max(abs(one), 1e-9)
