"""Run networks with PyTorch, eager: what training uses, and what no other engine can open."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError, MissingExtra, UsageError, listed
from headstart.core.format import Format
from headstart.core.gpu import gpu
from headstart.core.threads import core_count


@final
class Torch(Format):
    """PyTorch on the CPU, or on a GPU where there is one. Each library's networks are built by `formats/_<library>.py`.

    Such a file has `build(network)`, which returns an object with `run(arrays)` (tensors by name, in and out, as
    `core/pipeline.py` lists them) and, where it generates, `generate(arrays, settings)`; and `module`, its
    `torch.nn.Module`. It may have `unsupported(network)`, which says why it cannot build one.
    """

    tolerance = 5e-4

    @property
    def rank(self) -> int:  # type: ignore[override]
        """Where there is a GPU, it is asked first."""
        return 0 if _on_gpu() else 1

    @property
    def heavy(self) -> str:  # type: ignore[override]
        """PyTorch takes seconds to import, which is worth it where there is a GPU."""
        return "" if _on_gpu() else "torch"

    def precisions(self) -> list[str]:
        """Return f32 on a CPU, where other engines run bf16 faster; on a GPU the halves first."""
        return ["bf16", "f16", "f32"] if _on_gpu() else ["f32"]

    def offered(self, network: Network) -> list[str]:
        """Return the precisions at which it runs a network: half precision where that is known to do."""
        if not _on_gpu():
            return ["f32"]
        from headstart.formats import _cuda

        return self.precisions() if _cuda.halved(network) else ["f32"]

    def supports(self, network: Network) -> str:
        """Return an empty string, or why PyTorch cannot open it."""
        name = f"headstart.formats._{network.library}"
        if importlib.util.find_spec(name) is None:
            return f"its library is '{network.library}', which PyTorch does not run"
        try:
            library = importlib.import_module(name)
        except ModuleNotFoundError as error:
            return f"the package '{error.name}' is not installed (pip install 'headstart[{network.library}]')"
        return library.unsupported(network) if hasattr(library, "unsupported") else ""

    def open(self, network: Network, precision: str, threads: int) -> TorchSession:
        """Build the network and load its weights.

        Raises:
            MissingExtra: PyTorch or the network's library is not installed.
            HubError: the weights do not fit.
        """
        reason = self.supports(network)
        if reason:
            error = MissingExtra if "not installed" in reason else HubError
            raise error(f"'{network.backbone.reference}' cannot be opened: {reason}.")
        offered = self.offered(network)
        if precision not in offered:
            raise UsageError(f"There is no precision '{precision}'.", allowed=f"Precisions: {listed(offered)}.")
        import torch

        torch.set_num_threads(threads)
        built = importlib.import_module(f"headstart.formats._{network.library}").build(network)
        if not torch.cuda.is_available():
            return TorchSession(built)
        from headstart.formats import _cuda

        return TorchSession(built, _cuda.Gpu(built, network, precision))

    def operations(self, network: Network, encoded: Arrays) -> float:
        """Return the operations of matrix products, convolutions and attention, as PyTorch counts them; 0 on a CPU."""
        if not _on_gpu():
            return 0.0
        from torch.utils.flop_counter import FlopCounterMode

        session = self.open(network, self.offered(network)[0], core_count())
        session.fast.plainly()
        with FlopCounterMode(display=False) as counter:
            session.run(encoded)
        return float(counter.get_total_flops())

    def peak(self, precision: str, threads: int) -> float:
        """Return what the GPU reaches in a large matrix product; 0 on a CPU."""
        if not _on_gpu():
            return 0.0
        from headstart.formats import _cuda

        return _cuda.peak(precision)


def _on_gpu() -> bool:
    """Return whether PyTorch would run on a GPU; asked of PyTorch itself where it is imported already."""
    found = sys.modules.get("torch")
    return bool(gpu()) and (found is None or found.cuda.is_available())


@final
class TorchSession(Session):
    """A network in PyTorch: NumPy arrays in and out, no gradients, in inference mode.

    Args:
        built: what `formats/_<library>.py` built.
        fast: how a GPU runs it, where there is one (`formats/_cuda.py`).
    """

    def __init__(self, built: Any, fast: Any = None) -> None:
        self.built, self.fast = built, fast
        built.module.eval()

    @property
    def device(self) -> Any:
        """Where the weights are now: training moves them."""
        held = next(self.built.module.parameters(), None)
        return "cpu" if held is None else held.device

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the network's outputs."""
        import torch

        found = self.fast.run(arrays) if self.fast is not None else None
        if found is not None:
            return found
        with torch.inference_mode():
            given = {
                name: torch.from_numpy(np.ascontiguousarray(each)).to(self.device) for name, each in arrays.items()
            }
            return {
                name: each.float().cpu().numpy() if each.is_floating_point() else each.cpu().numpy()
                for name, each in self.built.run(given).items()
            }

    def generate(self, arrays: Arrays, settings: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        """Yield what a generating network makes, step by step.

        Raises:
            UsageError: it does not generate.
        """
        import torch

        make: Callable[..., Any] | None = getattr(self.built, "generate", None)
        if make is None:
            raise UsageError("This network does not generate.")
        given = {name: torch.from_numpy(np.ascontiguousarray(each)).to(self.device) for name, each in arrays.items()}
        steps = iter(make(given, settings))
        try:
            while True:
                # The mode belongs to a thread, and a server may read each step in another one.
                with torch.inference_mode():
                    step = next(steps, None)
                if step is None:
                    return
                yield {name: each.cpu().numpy() for name, each in step.items()}
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()

    def trainable(self) -> Any:
        """Return the network as `formats/_<library>.py` built it."""
        return self.built
