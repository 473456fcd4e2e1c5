"""Where a course stands, on disk, so that it goes on where it was cut off and ends with the same bits."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load_file, save_file

from headstart.core.files import atomic_folder

EVERY = 60.0
"""Seconds between two checkpoints within an epoch."""
STATE, TENSORS = "state.json", "tensors.safetensors"


@final
class Checkpoints:
    """One folder that always holds the last whole checkpoint.

    Args:
        folder: where; its `checkpoint` subfolder is written.
        every: seconds between two checkpoints; 0 writes each time that it is asked.
    """

    def __init__(self, folder: Path, every: float = EVERY) -> None:
        self.place, self.every, self.last = folder / "checkpoint", every, time.monotonic()
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="headstart-checkpoint")
        self.writing: Future[None] | None = None

    def due(self) -> bool:
        """Return whether it is time for another one."""
        return time.monotonic() - self.last >= self.every

    def save(self, state: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        """Copy a checkpoint, which is then written in one step while training goes on.

        Args:
            state: plain JSON data.
            tensors: by name.

        Raises:
            ResourceError: the disk was full at the last one; the checkpoint before it is untouched.
        """
        self.wait()
        copied = {name: each.detach().to("cpu", copy=True).contiguous() for name, each in tensors.items()}
        self.writing = self.writer.submit(self._write, json.dumps(state), copied)
        self.last = time.monotonic()

    def _write(self, state: str, tensors: dict[str, Any]) -> None:
        with atomic_folder(self.place) as part:
            (part / STATE).write_text(state, encoding="utf-8")
            save_file(tensors, part / TENSORS)

    def wait(self) -> None:
        """Return when the last checkpoint is on the disk.

        Raises:
            ResourceError: the disk is full; the checkpoint before is untouched.
        """
        if self.writing is not None:
            written, self.writing = self.writing, None
            written.result()

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the state and the tensors of the last checkpoint, or None where there is none."""
        with contextlib.suppress(OSError, ValueError):
            state = json.loads((self.place / STATE).read_text(encoding="utf-8"))
            return state, dict(load_file(self.place / TENSORS))
        return None

    def clear(self) -> None:
        """Forget the checkpoint."""
        shutil.rmtree(self.place, ignore_errors=True)


def optimizer_tensors(optimizer: Any) -> dict[str, Any]:
    """Return an optimizer's state as tensors by name."""
    found = {}
    for number, each in optimizer.state_dict()["state"].items():
        for name, value in each.items():
            found[f"optimizer.{number}.{name}"] = value if isinstance(value, torch.Tensor) else torch.tensor(value)
    return found


def restore_optimizer(optimizer: Any, tensors: Mapping[str, Any]) -> None:
    """Put an optimizer's state back."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            state.setdefault(int(number), {})[key] = value
    if state:
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        for parameter, own in optimizer.state.items():
            # Fused steps read both in the order of memory, which must be the same.
            for key, value in own.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    own[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
