"""Rollout: versions come, take over and go, while requests are answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, final

from headstart.core.errors import UsageError, listed
from headstart.runtime import Runtime
from headstart.server.models.fitted import Fitted
from headstart.server.models.piped import Piped, Whole
from headstart.server.models.served import Served
from headstart.server.models.shadow import lane_of
from headstart.server.queue.work import WHOLE
from headstart.server.service import Service

Opener = Callable[[str], Any]
"""Opens what a text names, a bundle's folder or a reference, as a Runtime or a Whole."""
ROLES = ("live", "canary", "shadow")
DRAIN = 60.0
"""Seconds after which a version that is still answering is let go all the same."""

log = logging.getLogger("headstart.server")


@final
class Rollout:
    """Loads versions beside those that answer, warms them, swaps them in, and lets the old ones finish.

    Args:
        service: whose shelf it changes.
        opener: opens what is named; None where nothing is loaded while the server runs.
    """

    def __init__(self, service: Service, opener: Opener | None = None) -> None:
        self.service, self._opener = service, opener
        self._changing = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    def put(self, name: str, opened: Any, origin: str = "") -> Served:
        """Serve an opened model from the start; before the model thread runs.

        Raises:
            HeadstartError: it cannot answer its own example.
        """
        served = self._served(opened, name, self.service.shelf.next_version(name), origin)
        self.service.shelf.add(served)
        self._weigh(name)
        return served

    async def load(self, name: str, path: str, *, role: str = "live", weight: float = 0.0) -> Served:
        """Open another version, warm it, and give it its part; what answers meanwhile goes on answering.

        Args:
            name: the model, which may be a new one.
            path: a bundle's folder, or a reference.
            role: `live` (it takes over at once), `canary` or `shadow`.
            weight: the canary's share of the requests.

        Raises:
            UsageError: the role or weight cannot be used.
            HeadstartError: it cannot be opened, or cannot answer its own example; nothing has changed.
        """
        if self._opener is None:
            raise UsageError("This server loads no models while it runs.")
        if role not in ROLES:
            raise UsageError(f"There is no role '{role}'.", allowed=f"Roles: {listed(ROLES)}.")
        if role == "canary" and not 0 < weight <= 1:
            raise UsageError(f"The weight is {weight}.", allowed="A share above 0, and 1 at the most, such as 0.1.")
        async with self._changing:
            shelf = self.service.shelf
            if role != "live":
                shelf.entry(name)
            opened = await asyncio.to_thread(self._opener, path)
            version = shelf.next_version(name)
            served: Served = await self.service.batcher.call(lambda: self._served(opened, name, version, path))
            self._retire(shelf.add(served, role, weight))
            self._weigh(name)
        log.info("Version %s of '%s' is %s: %s.", version, name, role, path)
        return served

    async def promote(self, name: str) -> None:
        """Let the canary or the shadow take over.

        Raises:
            UsageError: there is neither.
        """
        await self._change(name, self.service.shelf.promote)

    async def rollback(self, name: str) -> None:
        """Take the canary or shadow away, else let the version before this one answer again.

        Raises:
            UsageError: there is nothing to go back to.
        """
        await self._change(name, self.service.shelf.rollback)

    async def unload(self, name: str, version: str = "") -> None:
        """Take a model, or a version of it that is not live, away.

        Raises:
            RequestError: there is none (status 404).
            UsageError: the version is live.
        """
        await self._change(name, lambda name: self.service.shelf.unload(name, version))

    def status(self) -> list[dict[str, Any]]:
        """Return all models and their versions, as plain JSON data."""
        found = []
        for name, entry in self.service.shelf.entries.items():
            versions = [
                {
                    "version": version,
                    "role": entry.role(version),
                    "weight": self._weight(name, version),
                    "path": served.origin,
                    "task": served.task,
                    "opened": served.opened.isoformat(timespec="seconds"),
                    "inflight": served.users,
                }
                for version, served in entry.versions.items()
            ]
            found.append({"name": name, "live": entry.live, "versions": versions})
        return found

    async def _change(self, name: str, change: Callable[[str], Sequence[Served]]) -> None:
        async with self._changing:
            self._retire(change(name))
            self._weigh(name)

    def _served(self, opened: Any, name: str, version: str, origin: str) -> Served:
        budget = self.service.limits.budget
        if isinstance(opened, Runtime):
            path = str(opened.bundle.path) if opened.bundle else ""
            fitted = Fitted(opened, name, version, budget, origin or path)
            # Making it has warmed it up, so that now it takes as long as it always will.
            started = time.perf_counter()
            fitted.predict_rows([fitted.example])
            self.service.batcher.learn(name, WHOLE // budget.rows, time.perf_counter() - started)
            return fitted
        assert isinstance(opened, Whole)
        return Piped(opened, name, version, budget, origin, self.service.batcher.pause)

    def _weight(self, name: str, version: str) -> float:
        entry = self.service.shelf.entries[name]
        if version == entry.canary:
            return entry.weight
        return 1 - (entry.weight if entry.canary else 0.0) if version == entry.live else 0.0

    def _weigh(self, name: str) -> None:
        if name in self.service.shelf.entries:
            for version in self.service.shelf.entries[name].versions:
                self.service.metrics.weight.labels(name, version).set(self._weight(name, version))

    def _retire(self, leaving: Sequence[Served]) -> None:
        for served in leaving:
            task = asyncio.ensure_future(self._drained(served))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _drained(self, served: Served) -> None:
        """Wait until a version has answered all that it was asked, and forget it."""
        until = time.monotonic() + DRAIN
        while served.users and time.monotonic() < until:
            await asyncio.sleep(0.05)
        self.service.forget(served)
        if served.name not in self.service.shelf.entries:
            for lane in (served.name, lane_of(served.name)):
                self.service.batcher.forget(lane)
