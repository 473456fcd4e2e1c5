"""Whether this machine has a GPU that PyTorch can use, told without importing PyTorch."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

from headstart.core.threads import processor

DRIVER = Path("/proc/driver/nvidia/gpus")
DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")
"""What the driver makes; the last one under Windows."""
HIDDEN = ("", "-1")
"""Values of CUDA_VISIBLE_DEVICES that hide every GPU."""


def gpu() -> str:
    """Return the name of the first GPU; empty where there is none, where it is hidden, or PyTorch is built without it.

    Where PyTorch is not installed, nothing here runs on a GPU.
    """
    return "" if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in HIDDEN or not _built_for_one() else _name()


def machine() -> str:
    """Return the names of what computes here: the processor, and the GPU where there is one."""
    return ", ".join(filter(None, [processor(), gpu()]))


@cache
def _name() -> str:
    try:
        for told in sorted(DRIVER.glob("*/information")):
            for line in told.read_text().splitlines():
                if line.startswith("Model:"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return "a GPU" if any(Path(each).exists() for each in DEVICES) else ""


@cache
def _built_for_one() -> bool:
    found = importlib.util.find_spec("torch")
    return bool(found and found.origin and (Path(found.origin).parent / "lib" / "libtorch_cuda.so").is_file())
