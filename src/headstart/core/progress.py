"""Progress of long work: a bar with an estimate on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """What long work reports to."""

    def say(self, line: str) -> None:
        """Tell the user one line."""

    def bar(self, label: str, total: int, unit: str = "row") -> Bar:
        """Return a context manager that counts up to `total` of `unit`; `B` is bytes."""


class Bar(Protocol):
    """A counter within a `with` block."""

    def __enter__(self) -> Bar: ...
    def __exit__(self, *error: object) -> None: ...
    def advance(self, count: int) -> None:
        """Count `count` more."""


class Quiet:
    """Reports nothing."""

    def say(self, line: str) -> None:
        """Drop the line."""

    def bar(self, label: str, total: int, unit: str = "row") -> Bar:
        """Return a counter that counts nothing."""
        return _NoBar()


class _NoBar:
    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def advance(self, count: int) -> None:
        return None


class Console:
    """Reports on standard error, so that standard output stays clean for results."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def say(self, line: str) -> None:
        """Print the line with the seconds since the start."""
        print(f"[{time.monotonic() - self.started:6.1f} s] {line}", file=sys.stderr, flush=True)

    def bar(self, label: str, total: int, unit: str = "row") -> Bar:
        """Return a tqdm bar on a terminal, a line every five seconds elsewhere."""
        if sys.stderr.isatty():
            return _TerminalBar(label, total, unit)
        return _LineBar(self, label, total, unit)


class _TerminalBar:
    def __init__(self, label: str, total: int, unit: str) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            desc=label, total=total, unit=unit, unit_scale=unit == "B", leave=False, file=sys.stderr, smoothing=0.1
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def advance(self, count: int) -> None:
        self.bar.update(count)


class _LineBar:
    every = 5.0

    def __init__(self, console: Console, label: str, total: int, unit: str) -> None:
        self.console, self.label, self.total, self.done = console, label, total, 0
        self.scale, self.unit = (1e6, " MB") if unit == "B" else (1.0, "")
        self.started = self.spoke = time.monotonic()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def advance(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.spoke >= self.every and self.done < self.total:
            left = (now - self.started) / max(self.done, 1) * (self.total - self.done)
            done, total = (f"{each / self.scale:,.0f}" for each in (self.done, self.total))
            self.console.say(f"{self.label}: {done} of {total}{self.unit}, about {left:.0f} s left")
            self.spoke = now


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall-clock seconds of the block to `seconds[name]`."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
