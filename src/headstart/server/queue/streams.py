"""Streams: texts that the model thread writes step by step, and clients read as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import final

AHEAD = 64
"""Pieces that may wait for a slow client before its stream pauses."""


@final
class Stream:
    """One text that is being written.

    `step` and `make` run in the model thread, everything else in the event loop.

    Args:
        make: starts it.
        loop: where it is read.
        wake: tells the model thread that there is something to do.
    """

    def __init__(
        self, make: Callable[[], Iterator[str]], loop: asyncio.AbstractEventLoop, wake: Callable[[], None]
    ) -> None:
        self._make, self._loop, self._wake = make, loop, wake
        self._steps: Iterator[str] | None = None
        self._pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self._left = False
        # Each is written by one thread only.
        self._written = self._read = 0
        self.ended = False

    @property
    def wants(self) -> bool:
        """Whether there is a step to do: the next piece, or the end for a client that has left."""
        return not self.ended and (self._left or self._written - self._read < AHEAD)

    def step(self) -> None:
        """Write the next piece, or stop where the client has left."""
        if self._left:
            self._close()
            return
        try:
            if self._steps is None:
                self._steps = self._make()
            piece: str | Exception | None = next(self._steps, None)
        except Exception as error:
            piece = error
        if not isinstance(piece, str):
            self._close()
        self._post(piece)

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        self._close()
        self._post(error)

    async def next(self) -> str | None:
        """Return the next piece when it is there, or None at the end.

        Raises:
            HeadstartError: the input cannot be used, or the model failed.
        """
        piece = await self._pieces.get()
        self._read += 1
        if self._written - self._read == AHEAD - 1:
            self._wake()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def leave(self) -> None:
        """Say that nobody reads any more."""
        self._left = True
        self._wake()

    def _close(self) -> None:
        self.ended = True
        # What a network holds for the text is freed now, not when the iterator is collected.
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()
        self._steps = None

    def _post(self, piece: str | Exception | None) -> None:
        self._written += 1
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
