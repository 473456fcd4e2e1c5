"""A folder of bundles, served as it is: what appears, changes or goes there does so on the shelf, too."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from pathlib import Path
from typing import final

from headstart.core.bundle import MANIFEST
from headstart.core.errors import HeadstartError
from headstart.server.models.rollout import Rollout

log = logging.getLogger("headstart.server")
Seen = dict[str, tuple[int, int, int]]


def bundles_in(folder: Path) -> Seen:
    """Return the bundles in a folder by name, with what changes when one is written again."""
    found: Seen = {}
    for each in sorted(folder.iterdir()) if folder.is_dir() else []:
        with suppress(OSError):
            if not each.name.startswith("."):
                told = (each / MANIFEST).stat()
                found[each.name] = (told.st_mtime_ns, told.st_size, told.st_ino)
    return found


@final
class Folder:
    """Watches a folder of bundles.

    Args:
        path: the folder.
        seconds: how often it is looked at; SIGHUP looks at once.
        seen: the bundles that are served already.
    """

    def __init__(self, path: Path, seconds: float = 2.0, seen: Seen | None = None) -> None:
        self.path, self.seconds = path, seconds
        self._seen: Seen = dict(seen or {})
        self._told: dict[str, str] = {}

    async def watch(self, rollout: Rollout) -> None:
        """Follow the folder until cancelled."""
        now = asyncio.Event()
        # Only the main thread may ask for signals; elsewhere polling has to do.
        with suppress(ValueError, RuntimeError, NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, now.set)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(now.wait(), self.seconds)
            now.clear()
            try:
                await self.follow(rollout)
            except Exception as error:
                log.error("The folder '%s' cannot be followed.", self.path, exc_info=error)

    async def follow(self, rollout: Rollout) -> None:
        """Load what is new or changed, and unload what is gone.

        What cannot be loaded is tried again each time, as it may still be being copied; the log hears of it once.
        """
        found = await asyncio.to_thread(bundles_in, self.path)
        for name, mark in found.items():
            if self._seen.get(name) == mark:
                continue
            try:
                await rollout.load(name, str(self.path / name))
            except HeadstartError as error:
                if self._told.get(name) != str(error):
                    log.error("'%s' is not served: %s", self.path / name, error)
                self._told[name] = str(error)
            else:
                self._seen[name] = mark
                self._told.pop(name, None)
        for name in [name for name in self._seen if name not in found]:
            del self._seen[name]
            if name in rollout.service.shelf.entries:
                await rollout.unload(name)
                log.info("'%s' has gone from '%s'.", name, self.path)
