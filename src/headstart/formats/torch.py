"""Run networks with PyTorch, eager: what training uses, and what no other engine can open."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError, MissingExtra, UsageError, listed
from headstart.core.format import Format


@final
class Torch(Format):
    """PyTorch on the CPU, or on a GPU where there is one. Each library's networks are built by `formats/_<library>.py`.

    Such a file has `build(network)`, which returns an object with `run(arrays)` (tensors by name, in and out, as
    `core/pipeline.py` lists them) and, where it generates, `generate(arrays, settings)`; and `module`, its
    `torch.nn.Module`. It may have `unsupported(network)`, which says why it cannot build one.
    """

    tolerance = 5e-4
    heavy = "torch"

    def precisions(self) -> list[str]:
        """Return f32: eager bf16 is for training, and on this processor other engines run it faster."""
        return ["f32"]

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

    def open(self, network: Network, precision: str, threads: int) -> Session:
        """Build the network and load its weights.

        Raises:
            MissingExtra: PyTorch or the network's library is not installed.
            HubError: the weights do not fit.
        """
        reason = self.supports(network)
        if reason:
            error = MissingExtra if "not installed" in reason else HubError
            raise error(f"'{network.backbone.reference}' cannot be opened: {reason}.")
        if precision not in self.precisions():
            raise UsageError(
                f"There is no precision '{precision}'.", allowed=f"Precisions: {listed(self.precisions())}."
            )
        import torch

        torch.set_num_threads(threads)
        library = importlib.import_module(f"headstart.formats._{network.library}")
        return TorchSession(library.build(network), "cuda" if torch.cuda.is_available() else "cpu")


@final
class TorchSession(Session):
    """A network in PyTorch: NumPy arrays in and out, no gradients, in inference mode."""

    def __init__(self, built: Any, device: str) -> None:
        self.built = built
        built.module.eval().to(device)

    @property
    def device(self) -> Any:
        """Where the weights are now: training moves them."""
        held = next(self.built.module.parameters(), None)
        return "cpu" if held is None else held.device

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the network's outputs."""
        import torch

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
