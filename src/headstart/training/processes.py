"""Several processes that train together."""

from __future__ import annotations

import torch


def wait() -> None:
    """Wait until all processes are here, where several train together: what one removes, another may still read."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
