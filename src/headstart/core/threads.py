"""How many cores this process may really use, and work that runs beside other work."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """Work in a thread of its own; unlike an executor's, it does not keep a process that was told to end."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._found.append(work())
        except BaseException as error:  # It is raised where the result is wanted.
            self._error = error

    def result(self) -> T:
        """Wait for it, and return what it gave or raise what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found[0]


def core_count() -> int:
    """Return the cores this process may use: its affinity, cut by the cgroup's CPU quota (v2, then v1).

    Where torchrun has started several processes on this machine, they share them.
    """
    cores, quota = _cores(), _quota()
    return max(1, (min(cores, round(quota)) if quota else cores) // max(_told("LOCAL_WORLD_SIZE", 1), 1))


def core_reason() -> str:
    """Return in words why `core_count` is what it is."""
    cores, quota, machine = _cores(), _quota(), os.cpu_count() or 1
    if quota and round(quota) < cores:
        return f"the cgroup's CPU quota allows {quota:g} of {cores} cores"
    return f"the process may use {cores} of the machine's {machine} cores" + ("" if quota else "; there is no quota")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def processor_flags() -> frozenset[str]:
    """Return what the processor can do, by the names that Linux gives; nothing where that is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def process_rank() -> int:
    """Return which of several processes of one job this is, as torchrun tells it in RANK; 0 where it is alone."""
    return _told("RANK", 0)


def process_count() -> int:
    """Return how many processes this job has, as torchrun tells it in WORLD_SIZE; 1 where this one is alone."""
    return max(_told("WORLD_SIZE", 1), 1)


def _told(name: str, usual: int) -> int:
    try:
        return int(os.environ.get(name) or usual)
    except ValueError:
        return usual


def _quota() -> float | None:
    try:
        most, each = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(each)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        return limit / int((folder / "cpu.cfs_period_us").read_text()) if limit > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
