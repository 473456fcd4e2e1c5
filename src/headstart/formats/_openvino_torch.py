"""Networks of PyTorch's libraries in OpenVINO: traced once, compared with PyTorch, and kept as a graph.

OpenVINO runs convolutions on a CPU several times as fast. A trace can freeze what should depend on the input, so its
numbers are compared with PyTorch's own, on other sizes, before it is kept. What was kept needs no PyTorch any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

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
from headstart.formats import (
    _openvino_boxes,
    _openvino_dictation,
    _openvino_pictures,
    _openvino_reading,
    _openvino_regions,
    _openvino_sound,
    _openvino_spectra,
    _openvino_spelling,
    _openvino_writing,
)
from headstart.formats._heads import check_names
from headstart.formats._openvino import ov
from headstart.formats._tracing import too_large
from headstart.formats.torch import Torch

TOLERANCE = 1e-3
"""Largest accepted distance to PyTorch's own output in float32, as a share of its length."""
LARGEST = 8_000_000_000
"""Bytes of the graphs in the cache; those that were used longest ago go first."""
GRAPH, REASON = "graph.xml", "unfit.txt"
CARRIED = "openvino_graph"
"""The folder within a network's own that holds its graph, where a bundle carries it."""
KINDS: tuple[Any, ...] = (
    _openvino_boxes,
    _openvino_dictation,
    _openvino_pictures,
    _openvino_reading,
    _openvino_regions,
    _openvino_sound,
    _openvino_spectra,
    _openvino_spelling,
    _openvino_writing,
)
"""Each says which networks it concerns, what they are traced with, and how their graphs run."""
SIZED = (_openvino_dictation, _openvino_reading, _openvino_sound, _openvino_spectra, _openvino_writing)
"""Kinds whose networks may be too large to be traced."""
CAREFUL = (_openvino_boxes, _openvino_dictation, _openvino_regions, _openvino_writing)
"""Kinds that choose among letters, words or boxes one by one: nothing here has measured what these lose in bf16."""


def _kind(network: Network) -> Any:
    return next((each for each in KINDS if each.concerns(network)), None)


def concerns(network: Network) -> bool:
    """Return whether it is a network of one of PyTorch's libraries that is traced here."""
    return _kind(network) is not None


def unsupported(network: Network) -> str:
    """Return an empty string, or why the network is left to PyTorch."""
    reason: str = _kind(network).unsupported(network)
    if reason:
        return reason
    kept = place(network)
    if (kept / GRAPH).is_file():
        return ""
    if (kept / REASON).is_file():
        return (kept / REASON).read_text(encoding="utf-8")
    if _kind(network) in SIZED and (reason := too_large(network)):
        return reason
    if importlib.util.find_spec("torch") is None:
        return f"the package 'torch' is not installed (pip install 'headstart[{network.library}]')"
    reason = Torch().supports(network)
    if not reason and gpu():
        return "there is a GPU, and PyTorch runs it there"
    return reason


def careful(network: Network) -> bool:
    """Return whether it is run in float32 unless another precision is asked for."""
    return network.use == "transcribe" or _kind(network) in CAREFUL


def exact(network: Network) -> str:
    """Return a pattern of the names of operations that eight bits would ruin; empty where there are none."""
    return str(getattr(_kind(network), "EXACT", ""))


def session(compiled: Any, network: Network) -> Session:
    """Return what runs a compiled graph."""
    return _kind(network).session(compiled, network)


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
        "side": _openvino_pictures.side(network),
        "layout": network.preprocessing.get("layout"),
        "pooling": dict(network.pooling),
        "config": dict(network.config),
        "labels": list(network.labels) if network.use == "transcribe" else [],
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
        with contextlib.suppress(OSError):  # a bundle may lie where nothing can be written
            os.utime(kept)
    except (OSError, RuntimeError, UsageError, ResourceError) as error:
        raise Unfit(f"its graph cannot be kept in '{kept.parent}' or read from there: {_reason(error)}") from error
    if network.use == "classify":
        check_names(network, int(graph.outputs[0].partial_shape[1].get_length()))
    return graph


def _keep(network: Network, kept: Path, core: ov.Core) -> None:
    own = Torch().open(network, "f32", _threads())
    try:
        graph = _traced(own, network)
        reason = _differs(own, graph, network, core)
    except MemoryError:
        raise
    except Exception as error:  # What tracing cannot follow is told by many kinds of errors, none of them the user's.
        graph, reason = None, f"it cannot be traced: {_reason(error)}"
    with atomic_folder(kept) as part:
        if not reason and hasattr(_kind(network), "settled"):
            graph = _kind(network).settled(graph, own.built)
        if reason:
            (part / REASON).write_text(reason, encoding="utf-8")
        else:
            ov.save_model(graph, str(part / GRAPH), compress_to_fp16=False)
    _evict(kept)


def _evict(newest: Path) -> None:
    """Remove the graphs that were used longest ago where all of them take more than `LARGEST`."""
    sizes = {each: sum(file.stat().st_size for file in each.iterdir()) for each in newest.parent.iterdir()
             if each.is_dir() and not each.name.startswith(".")}  # fmt: skip
    total = sum(sizes.values())
    for each in sorted(sizes, key=lambda one: one.stat().st_mtime):
        if total <= LARGEST or each == newest:
            break
        total -= sizes[each]
        shutil.rmtree(each, ignore_errors=True)


def _threads() -> int:
    return int(require("torch", "torch").get_num_threads())


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (" ".join(lines[:3]) or type(error).__name__)[:300].rstrip(".")


def _traced(own: Any, network: Network) -> Any:
    torch, kind = require("torch", "torch"), _kind(network)
    built = own.built
    given = tuple(torch.from_numpy(each) for each in kind.given(network, built))

    class Traced(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = built.module

        def forward(self, *given: Any) -> Any:
            return kind.values(built, *given)

    # Some look at what they are given once, before they are traced.
    name = next(iter(own.run(kind.examples(network)[0])))
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        graph = ov.convert_model(Traced().eval(), example_input=given)
    graph.reshape(dict(enumerate(kind.shapes(network, built))))
    graph.outputs[0].get_tensor().set_names({name})
    return kind.finished(graph) if hasattr(kind, "finished") else graph


def _differs(own: Session, graph: Any, network: Network, core: ov.Core) -> str:
    """Return an empty string, or in what the graph differs from PyTorch."""
    found, kind = (
        session(core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}), network),
        _kind(network),
    )
    if hasattr(kind, "differs"):
        return str(kind.differs(own, found, network))
    run = getattr(kind, "compared", lambda session, arrays: session.run(arrays))
    same = all(_same(run(own, arrays), run(found, arrays)) for arrays in kind.examples(network)[1:])
    return "" if same else "it gives other numbers in OpenVINO than in PyTorch"


def _same(theirs: Arrays, ours: Arrays) -> bool:
    if theirs.keys() != ours.keys() or any(ours[name].shape != each.shape for name, each in theirs.items()):
        return False
    for name, each in theirs.items():
        rows = each.reshape(len(each), -1).astype(np.float64)
        apart = np.linalg.norm(ours[name].reshape(rows.shape) - rows, axis=1)
        # Written so that a number that is none is not the same.
        if not (apart <= TOLERANCE * np.linalg.norm(rows, axis=1)).all():
            return False
    return True
