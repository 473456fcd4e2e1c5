"""Smaller and faster forms of a network as an OpenVINO graph: eight-bit numbers throughout, or narrower weights alone.

Eight bits: weights and what flows between layers are rounded to 256 steps, whose range is chosen by running rows of the
user's own through the network (NNCF; Jacob and others 2018, arXiv:1712.05877; for transformers the scales are moved
from activations to weights first: Xiao and others 2023, arXiv:2211.10438). A form is made once and then needs no NNCF.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError
from headstart.core.files import atomic_folder, sha256
from headstart.core.registry import require
from headstart.core.written import copy_beside
from headstart.formats._openvino import ov, silently

INT8, F16, INT4 = "int8", "f16", "int4"
FORMS = (INT8, F16, INT4)
PRUNED = "pruned"
"""A graph with fewer channels (`formats/_channels.py`); it is computed as any other."""
COMPUTED = (INT8, INT4)
"""Forms that are a precision of their own."""
MOST = 300
"""Inputs at most by which ranges are chosen."""
ATTENDING = ("ScaledDotProductAttention", "MVN")
"""Operations that tell a transformer."""


def form_of(network: Network) -> str:
    """Return which form a network on disk is, and an empty string for one that is none."""
    known = network.weights.suffix == ".xml" and network.weights.stem in (*FORMS, PRUNED)
    return network.weights.stem if known else ""


def read(network: Network, core: ov.Core) -> Any:
    """Return the graph of a form.

    Raises:
        HubError: it is damaged.
    """
    try:
        return core.read_model(str(network.weights))
    except RuntimeError as error:
        raise HubError(f"OpenVINO cannot read '{network.weights}'.", hint="Compress the network again.") from error


def write(network: Network, graph: Any, form: str, folder: Path) -> Network:
    """Write a graph and what stands beside the network's weights into a folder, and return the network as it is there.

    Raises:
        ResourceError: the disk is full.
    """
    with atomic_folder(folder) as part:
        copy_beside(network, part)
        ov.save_model(graph, str(part / f"{form}.xml"), compress_to_fp16=form == F16)
    weights, held = folder / f"{form}.xml", folder / f"{form}.bin"
    size = weights.stat().st_size + held.stat().st_size
    backbone = replace(network.backbone, checksum=sha256(held), size=size, weights="", cached=True)
    return replace(network, folder=folder, weights=weights, backbone=backbone)


def quantised(
    graph: Any, core: ov.Core, run: Callable[[Any], Session], given: Sequence[Arrays], exact: str = ""
) -> Any:
    """Return a graph in eight bits.

    Args:
        graph: the graph in float32.
        run: makes a session of a compiled graph.
        given: encoded rows of the user's, in batches.
        exact: a pattern of the names of operations that stay as they are; none where empty.

    Raises:
        MissingExtra: NNCF is not installed.
        UsageError: there are no rows, or NNCF cannot quantise this graph.
    """
    inputs = recorded(graph, core, run, given)
    if not inputs:
        raise UsageError("There are no rows by which the ranges of eight-bit numbers could be chosen.")
    with silently():
        nncf = require("nncf", "compress")
    attends = any(each.get_type_name() in ATTENDING for each in graph.get_ordered_ops())
    kind = nncf.ModelType.TRANSFORMER if attends else None
    scope = nncf.IgnoredScope(patterns=[exact]) if exact else None
    with _muted():
        made = partial(nncf.quantize, graph, nncf.Dataset(inputs), model_type=kind, ignored_scope=scope)
        return _told(lambda: made(subset_size=len(inputs)))


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Silence NNCF, which draws bars and prints warnings of its own."""
    logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf.set_log_level would mute handlers of others, too
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _told(make: Callable[[], Any]) -> Any:
    """Return what NNCF makes.

    Raises:
        UsageError: it cannot.
    """
    try:
        return make()
    except MemoryError:
        raise
    except Exception as error:  # NNCF's errors have no class in common.
        told = str(error).strip().splitlines()
        raise UsageError(
            f"NNCF cannot quantise this network: {told[0][:200] if told else 'no reason given'}."
        ) from error


def narrowed(graph: Any, form: str) -> Any:
    """Return a graph whose weights have eight or four bits, while what flows between layers stays as it is.

    Writing token by token takes as long as reading the weights does, so narrow ones are faster. Rows of the user's are
    not needed. Four bits: groups of weights share a scale; the first and the last layer keep eight.

    Raises:
        MissingExtra: NNCF is not installed.
        UsageError: NNCF cannot do that with this graph.
    """
    with silently():
        nncf = require("nncf", "compress")
    modes = nncf.CompressWeightsMode
    fallback = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
    given = {"mode": modes.INT8_ASYM} if form == INT8 else {"mode": modes.INT4_SYM, "advanced_parameters": fallback}
    with _muted():
        return _told(lambda: nncf.compress_weights(graph, **given))


def recorded(
    graph: Any, core: ov.Core, run: Callable[[Any], Session], given: Sequence[Arrays]
) -> list[list[np.ndarray]]:
    """Return what a graph is given when a session runs rows, one row of each batch at a time, `MOST` at most."""
    watched = Watched(core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))
    session = run(watched)
    for arrays in given:
        if len(watched.seen) < MOST:
            session.run(arrays)
    places = np.linspace(0, len(watched.seen) - 1, min(MOST, len(watched.seen))).astype(int)
    return [watched.seen[place] for place in places]


@final
class Watched:
    """A compiled graph that remembers what it is given."""

    def __init__(self, compiled: Any) -> None:
        self.inputs, self.outputs = compiled.inputs, compiled.outputs
        self.request = compiled.create_infer_request()
        self.seen: list[list[np.ndarray]] = []
        self.shapes: list[tuple[tuple[int, ...], ...]] = []

    def create_infer_request(self) -> Watched:
        """Return itself, which runs the graph too."""
        return self

    def infer(self, given: Sequence[np.ndarray], **settings: Any) -> Any:
        """Run the graph, and keep each row of what it was given, and the shapes of the whole."""
        self.shapes.append(tuple(each.shape for each in given))
        for row in range(len(given[0])):
            self.seen.append([np.array(each[row : row + 1]) for each in given])
        return self.request.infer(given, **settings)
