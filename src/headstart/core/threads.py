"""How many cores this process may really use."""

from __future__ import annotations

import os
from pathlib import Path


def core_count() -> int:
    """Return the cores this process may use: its affinity, cut by the cgroup's CPU quota (v2, then v1)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(cores, round(quota)) if quota else cores)


def process_rank() -> int:
    """Return which of several processes of one job this is, as torchrun tells it in RANK; 0 where it is alone."""
    try:
        return int(os.environ.get("RANK", "0"))
    except ValueError:
        return 0


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
