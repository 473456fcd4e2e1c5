"""How large a network of PyTorch may be to be traced."""

from __future__ import annotations

from pathlib import Path

from headstart.core.backbone import Network

MOST = 8_000_000_000
"""Bytes of a graph, in float32, above which none is traced: it takes as much of the disk."""
AT_ONCE = 3
"""Copies of the weights that stand in memory at once while a network is traced, compared and kept."""


def too_large(network: Network) -> str:
    """Return an empty string, or why a network whose weights are one file is not traced."""
    if not network.weights.is_file() or network.weights.suffix == ".json":
        return "its weights are not in one file"
    # Where nobody has counted them, they may be of half width.
    size = 4 * (network.backbone.parameters or network.weights.stat().st_size // 2)
    if size > MOST:
        return f"its graph would take {size / 1e9:.1f} GB"
    free = available()
    if free and AT_ONCE * size > free:
        return f"tracing it would take {AT_ONCE * size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free"
    return ""


def available() -> int:
    """Return the bytes of memory that are free for a program; 0 where that is not known."""
    try:
        told = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in told.splitlines() if line.startswith("MemAvailable:")), 0)
