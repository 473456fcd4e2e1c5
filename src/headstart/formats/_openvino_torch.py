"""Image networks of PyTorch's libraries in OpenVINO: converted once, compared with PyTorch, and kept as a graph."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart.core import VERSION
from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.core.files import atomic_folder, cache_folder
from headstart.core.registry import require
from headstart.formats._openvino import ov

LIBRARIES = ("timm", "torchvision")
"""Libraries whose image networks PyTorch can trace."""
OUTPUTS = {"embed": "embedding", "classify": "logits"}
TOLERANCE = 1e-4
"""Largest accepted 1 - cosine to PyTorch's own output, in float32."""


def unsupported(network: Network) -> str:
    """Return an empty string, or why the network is left to PyTorch."""
    if network.use not in OUTPUTS or network.backbone.modality != "image":
        return f"it is to {network.use.replace('_', ' ')}"
    if side(network) is None:
        return "its preprocessing sets no size"
    if not _kept(network).is_dir() and importlib.util.find_spec(network.library) is None:
        return f"the package '{network.library}' is not installed (pip install 'headstart[{network.library}]')"
    if (_kept(network) / "unfit").is_file():
        return "it gave other numbers than PyTorch when it was converted"
    return ""


def side(network: Network) -> tuple[int, int] | None:
    """Return height and width of what the network reads, where they are always the same."""
    size = network.preprocessing.get("crop") or network.preprocessing.get("size")
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) else None


def _kept(network: Network) -> Path:
    identity = (
        *(VERSION, network.backbone.checksum, network.library, network.architecture, network.use, side(network)),
        *(dict(network.pooling), sorted(network.config)),
    )
    return cache_folder() / "graphs" / hashlib.blake2b(repr(identity).encode(), digest_size=12).hexdigest()


def read(network: Network, core: ov.Core) -> Any:
    """Return the network's graph, converting it with PyTorch where that was not done before.

    Raises:
        HubError: it cannot be converted, or gives other numbers than PyTorch.
    """
    kept = _kept(network)
    if not kept.is_dir():
        _convert(network, kept, core)
    if not (kept / "graph.xml").is_file():
        raise HubError(f"'{network.backbone.reference}' gives other numbers in OpenVINO than in PyTorch.")
    return core.read_model(str(kept / "graph.xml"))


def _convert(network: Network, kept: Path, core: ov.Core) -> None:
    torch = require("torch", "torch")
    built = importlib.import_module(f"headstart.formats._{network.library}").build(network)
    built.module.eval()
    height, width = side(network) or (0, 0)
    pixels = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    traced = _traced(built, OUTPUTS[network.use])
    with torch.inference_mode():
        wanted = traced(pixels).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = ov.convert_model(traced, example_input=pixels, input=[-1, 3, height, width])
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = np.array(compiled([pixels.numpy()])[0])
    lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    close = ((wanted * found).sum(axis=1) / np.maximum(lengths, 1e-12) >= 1 - TOLERANCE).all()
    with atomic_folder(kept) as part:
        if close:
            ov.save_model(graph, str(part / "graph.xml"), compress_to_fp16=False)
        else:
            (part / "unfit").touch()


def _traced(built: Any, output: str) -> Any:
    torch = require("torch", "torch")

    class Traced(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = built.module

        def forward(self, pixels: Any) -> Any:
            found: Mapping[str, Any] = built.run({"pixels": pixels})
            return found[output]

    return Traced().eval()


@final
class PixelSession(Session):
    """A compiled image network: `pixels` (n, 3, height, width) in, one named output (n, width) out."""

    def __init__(self, compiled: Any, use: str) -> None:
        self.request, self.output = compiled.create_infer_request(), OUTPUTS[use]

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the output."""
        given = np.ascontiguousarray(arrays["pixels"], np.float32)
        return {self.output: np.array(self.request.infer([given], share_inputs=True)[0])}
