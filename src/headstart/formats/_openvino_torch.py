"""Image networks of PyTorch's libraries in OpenVINO: traced once, compared with PyTorch, and kept as a graph.

OpenVINO runs convolutions on a CPU several times as fast. A trace is of one picture size and can freeze what should
depend on the input, so its numbers are compared with PyTorch's own before it is kept. What has been kept needs no
PyTorch any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import warnings
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart.core import VERSION
from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.download import locked
from headstart.core.errors import ResourceError, UsageError
from headstart.core.files import atomic_folder, cache_folder
from headstart.core.format import Unfit
from headstart.core.gpu import gpu
from headstart.core.registry import require
from headstart.formats._heads import check_names
from headstart.formats._openvino import ov
from headstart.formats.torch import Torch

LIBRARIES = ("keras", "small", "timm", "torchhub", "torchvision", "transformers")
USES = ("classify", "embed")
TOLERANCE = 1e-3
"""Largest accepted distance to PyTorch's own output in float32, as a share of its length."""
COUNTS = (2, 3, 1)
"""How many pictures it is traced with, and then compared with."""
GRAPH, REASON = "graph.xml", "unfit.txt"
CARRIED = "openvino_graph"
"""The folder within a network's own that holds its graph, where a bundle carries it."""


def concerns(network: Network) -> bool:
    """Return whether it is an image network of one of PyTorch's libraries."""
    return network.library in LIBRARIES and network.backbone.modality == "image"


def unsupported(network: Network) -> str:
    """Return an empty string, or why the network is left to PyTorch."""
    if network.use not in USES:
        return f"it is to {network.use.replace('_', ' ')}"
    if _side(network) is None:
        return "its preprocessing sets no size"
    kept = place(network)
    if (kept / GRAPH).is_file():
        return ""
    if (kept / REASON).is_file():
        return (kept / REASON).read_text(encoding="utf-8")
    if importlib.util.find_spec("torch") is None:
        return f"the package 'torch' is not installed (pip install 'headstart[{network.library}]')"
    reason = Torch().supports(network)
    if not reason and gpu():
        return "there is a GPU, and PyTorch runs it there"
    return reason


def _side(network: Network) -> tuple[int, int] | None:
    """Return height and width of what the network reads, where they are always the same."""
    size = network.preprocessing.get("crop") or network.preprocessing.get("size")
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) and len(size) == 2 else None


def place(network: Network) -> Path:
    """Return where the graph is, or will be: beside the network's files, or in headstart's cache."""
    carried = network.folder / CARRIED
    return carried if (carried / GRAPH).is_file() else _kept(network)


def _kept(network: Network) -> Path:
    """Return where the graph is kept in the cache: what changes its numbers is in the folder's name."""
    other = Path(network.backbone.weights) if network.backbone.weights else network.weights
    identity = {
        "version": VERSION,
        "checksum": network.backbone.checksum,
        # A checksum is of the folder's own weights, which the user's file may take the place of.
        "weights": [str(other), other.stat().st_mtime_ns] if other != network.weights and other.is_file() else "",
        "library": network.library,
        "architecture": network.architecture,
        "use": network.use,
        "side": _side(network),
        "layout": network.preprocessing.get("layout"),
        "pooling": dict(network.pooling),
        "config": dict(network.config),
    }
    name = hashlib.blake2b(json.dumps(identity, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()
    return cache_folder() / "graphs" / name


def read(network: Network, core: ov.Core) -> Any:
    """Return the network's graph, traced with PyTorch where that was not done before; one process does it.

    Raises:
        Unfit: it cannot be traced, gives other numbers than PyTorch, or cannot be kept.
        HubError: its weights do not fit, or it has other classes than there are names.
    """
    kept = place(network)
    try:
        if not kept.is_dir():
            with locked(kept.with_name(f".{kept.name}.lock")):
                if not kept.is_dir():
                    _keep(network, kept, core)
        if not (kept / GRAPH).is_file():
            raise Unfit((kept / REASON).read_text(encoding="utf-8"))
        graph = core.read_model(str(kept / GRAPH))
    except (OSError, RuntimeError, UsageError, ResourceError) as error:
        raise Unfit(f"its graph cannot be kept in '{kept.parent}' or read from there: {_reason(error)}") from error
    if network.use == "classify":
        check_names(network, int(graph.outputs[0].partial_shape[1].get_length()))
    return graph


def _keep(network: Network, kept: Path, core: ov.Core) -> None:
    own = Torch().open(network, "f32", _threads())
    try:
        graph = _traced(own, network)
        reason = "" if _same(own, graph, network, core) else "it gives other numbers in OpenVINO than in PyTorch"
    except MemoryError:
        raise
    except Exception as error:  # What tracing cannot follow is told by many kinds of errors, none of them the user's.
        graph, reason = None, f"it cannot be traced: {_reason(error)}"
    with atomic_folder(kept) as part:
        if reason:
            (part / REASON).write_text(reason, encoding="utf-8")
        else:
            ov.save_model(graph, str(part / GRAPH), compress_to_fp16=False)


def _threads() -> int:
    return int(require("torch", "torch").get_num_threads())


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (" ".join(lines[:3]) or type(error).__name__)[:300].rstrip(".")


def _shape(network: Network) -> tuple[int, int, int]:
    height, width = _side(network) or (0, 0)
    colours = 1 if network.preprocessing.get("channels") == "grey" else 3
    return (height, width, colours) if network.preprocessing.get("layout") == "nhwc" else (colours, height, width)


def _examples(network: Network) -> list[np.ndarray]:
    """Return pictures of noise in the range that the network reads, one batch for each of `COUNTS`."""
    generator, scale = np.random.default_rng(0), 255 * float(network.preprocessing.get("scale", 1 / 255))
    return [(generator.random((count, *_shape(network)), np.float32) * scale).astype(np.float32) for count in COUNTS]


def _traced(own: Any, network: Network) -> Any:
    torch = require("torch", "torch")
    built, pixels = own.built, torch.from_numpy(_examples(network)[0])
    with torch.inference_mode():
        (name,) = built.run({"pixels": pixels})

    class Traced(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = built.module

        def forward(self, pixels: Any) -> Any:
            return built.run({"pixels": pixels})[name]

    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        graph = ov.convert_model(Traced().eval(), example_input=pixels)
    graph.reshape(ov.PartialShape([-1, *_shape(network)]))
    graph.outputs[0].get_tensor().set_names({name})
    return graph


def _same(own: Session, graph: Any, network: Network, core: ov.Core) -> bool:
    found = PixelSession(core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))
    for pixels in _examples(network)[1:]:
        theirs, ours = own.run({"pixels": pixels})[found.output], found.run({"pixels": pixels})[found.output]
        if ours.shape != theirs.shape:
            return False
        apart = np.linalg.norm(ours - theirs, axis=1)
        # Written so that a number that is none is not the same.
        if not (apart <= TOLERANCE * np.linalg.norm(theirs, axis=1)).all():
            return False
    return True


@final
class PixelSession(Session):
    """A compiled image network: `pixels` in, laid out as its preprocessing says; its one output (n, width) out."""

    def __init__(self, compiled: Any) -> None:
        self.request, self.output = compiled.create_infer_request(), compiled.outputs[0].get_any_name()

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the output."""
        given = np.ascontiguousarray(arrays["pixels"], np.float32)
        return {self.output: np.array(self.request.infer([given], share_inputs=True)[0], np.float32)}
