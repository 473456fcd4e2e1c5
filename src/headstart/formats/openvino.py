"""Run networks on CPUs with OpenVINO, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart.core.arrays import Adaptable, Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError, listed
from headstart.core.format import Format
from headstart.core.threads import processor_flags
from headstart.formats import (
    _bert_adapters,
    _bert_graph,
    _bert_int8,
    _bert_pooled,
    _bert_prune,
    _channels,
    _compress,
    _graphs,
    _openvino_graphs,
    _openvino_torch,
    _operations,
    _packing,
    _small_graph,
    _yolox_graph,
)
from headstart.formats._openvino import ov
from headstart.formats._openvino_requests import Repeatable, Requests

CAPACITY = 64
"""Tokens of a packed row."""
ROWS = 32
"""Rows of a batch."""
MULTIPLE = 16
"""A batch's width is a multiple of it."""
FEWER_ROWS = 16
"""Rows of a batch where batches may run side by side."""
SIDE_BY_SIDE = "amx_bf16"
"""Processors with it do much work at once faster by several requests (decision 0020)."""


@final
class OpenVINO(Format):
    """OpenVINO's CPU plugin. Networks of the BERT family are built from their safetensors; saved graphs are read."""

    tolerance = 5e-4
    forms = _compress.FORMS

    def precisions(self) -> list[str]:
        """Return bf16 first where the processor computes in it, then f32."""
        able = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ["bf16", "f32"] if able else ["f32"]

    def offered(self, network: Network) -> Sequence[str]:
        """Return int8 or int4 for a network in that form, else what the machine runs."""
        form = _compress.form_of(network)
        if form in _compress.COMPUTED:
            return [form]
        offered = self.precisions()
        if _from_safetensors(network) and _bert_int8.offered(network):
            offered = [*offered, _bert_int8.DYNAMIC]
        return offered[::-1] if _openvino_torch.careful(network) else offered

    def supports(self, network: Network) -> str:
        """Return an empty string for a text encoder of the BERT family or a saved graph that it reads, else why not."""
        if _compress.form_of(network):
            return "" if network.weights.is_file() else f"'{network.weights}' is missing"
        if network.library in _graphs.LIBRARIES:
            return _openvino_graphs.unsupported(network, _core())
        if network.library == "yolox":
            return _yolox_graph.unsupported(network)
        if _small_graph.concerns(network):
            return _small_graph.unsupported(network)
        if _openvino_torch.concerns(network):
            return _openvino_torch.unsupported(network)
        if network.use != "embed":
            return f"it is to {network.use.replace('_', ' ')}; without torch, encoders give vectors only"
        if network.weights.suffix != ".safetensors":
            return f"its weights are in '{network.weights.name}', not in one safetensors file"
        return _bert_graph.unsupported(network)

    def open(self, network: Network, precision: str, threads: int) -> Session:
        """Build and compile the network.

        Raises:
            HubError: its architecture cannot be built here.
            UsageError: the network does not run at this precision.
        """
        reason = self.supports(network)
        if reason:
            raise HubError(f"'{network.backbone.reference}' cannot be opened: {reason}.")
        form = _compress.form_of(network)
        allowed = [form] if form in _compress.COMPUTED else {"bf16", "f32", *self.offered(network)}
        if precision not in allowed:
            raise UsageError(
                f"There is no precision '{precision}'.", allowed=f"Precisions: {listed(self.offered(network))}."
            )
        return _session(self._compiled(network, precision, threads), network)

    def _compiled(self, network: Network, precision: str, threads: int) -> Any:
        def compiled(streams: int) -> Any:
            graph = _graph(network)
            if precision == _bert_int8.DYNAMIC:
                graph = _bert_int8.rounded(graph, network, _core())
            # With ranges of the moment, vectors are as far off as they may be already.
            exact = precision == _bert_int8.DYNAMIC or _hint(self, precision) != "bf16"
            if _gives_tokens(network) and not exact:
                graph = _bert_pooled.pooled(graph, network)
            several = {"NUM_STREAMS": streams} if streams > 1 else {}
            return _core().compile_model(graph, "CPU", _settings(self, precision, threads) | several)

        together = threads > 1 and _hint(self, precision) == "bf16" and SIDE_BY_SIDE in processor_flags()
        return Repeatable(compiled, threads) if together else compiled(1)

    def open_adaptable(self, network: Network, precision: str, threads: int) -> Adaptable | None:
        """Open a text encoder of the BERT family for several adapters; None for all else."""
        if not _from_safetensors(network) or _bert_graph.unsupported(network):
            return None
        graph = _bert_adapters.build(network)
        if precision == _bert_int8.DYNAMIC:
            graph = _bert_int8.rounded(graph, network, _core())
        compiled = _core().compile_model(graph, "CPU", _settings(self, precision, threads))
        return _bert_adapters.AdaptedText(compiled, network, (CAPACITY, ROWS, MULTIPLE))

    def ahead(self, network: Network) -> str:
        """Return that the network is traced, where it has not been."""
        if _compress.form_of(network) or not _openvino_torch.concerns(network):
            return ""
        return "" if _openvino_torch.place(network).is_dir() else "its graph is traced with PyTorch and kept"

    def worked_out(self, network: Network) -> Mapping[str, Path]:
        """Return the folder that holds the graph traced from PyTorch, where there is one."""
        if _compress.form_of(network) or not _openvino_torch.concerns(network):
            return {}
        place = _openvino_torch.place(network)
        return {_openvino_torch.CARRIED: place} if (place / _openvino_torch.GRAPH).is_file() else {}

    def compress(self, network: Network, form: str, given: Sequence[Arrays], folder: Path) -> Network:
        """Write a network as a graph in eight bits, or with narrower weights; one that writes has these alone.

        Raises:
            UsageError: there is no such form, the network is one already, or four bits are asked for elsewhere.
            MissingExtra: eight and four bits need NNCF.
        """
        if form not in self.forms or _compress.form_of(network) not in ("", _compress.PRUNED):
            return super().compress(network, form, given, folder)
        if form == _compress.INT4 and not network.writes:
            raise UsageError("Weights of four bits are for networks that write text.", allowed="Forms: int8, f16.")
        graph = _graph(network)
        if network.writes and form in _compress.COMPUTED:
            graph = _compress.narrowed(graph, form)
        elif form == _compress.INT8:
            exact = _openvino_torch.exact(network) if _openvino_torch.concerns(network) else ""
            graph = _compress.quantised(graph, _core(), lambda compiled: _session(compiled, network), given, exact)
        return _compress.write(network, graph, form, folder)

    def prunable(self, network: Network) -> str:
        """Return an empty string for a text encoder of the BERT family, or a network of convolutions, else why not."""
        if network.backbone.modality == "image":
            traced = network.use == "embed" and not _compress.form_of(network) and _openvino_torch.concerns(network)
            able = traced and not self.supports(network)
            return "" if able else "channels are left out of PyTorch's networks of pictures that give vectors"
        return _bert_prune.unsupported(network)

    def prune(
        self, network: Network, share: float, given: Sequence[Arrays], folder: Path, heads: float = 0.0
    ) -> Network:
        """Write a text encoder with fewer channels or attention heads, or convolutions with fewer channels.

        Raises:
            UsageError: it is another network, there are no rows, or nothing would stay or go.
        """
        if self.prunable(network):
            return super().prune(network, share, given, folder, heads)
        if network.backbone.modality == "image":
            if heads or not share:
                raise UsageError("Attention heads are left out of text encoders.", hint="Give --prune alone.")
            return _channels.prune(network, _graph(network), share, given, _core(), folder)
        return _bert_prune.prune(network, share, given, _core(), folder, heads)

    def operations(self, network: Network, encoded: Arrays) -> float:
        """Return the operations of matrix products, convolutions and attention, padding included."""
        return _operations.of_rows(_graph(network), _core(), lambda compiled: _session(compiled, network), encoded)

    def peak(self, precision: str, threads: int) -> float:
        """Return what the processor reaches in OpenVINO's own matrix product."""
        product = _compress.INT8 if precision == _bert_int8.DYNAMIC else precision
        return _operations.peak(_core(), product, threads, _hint(self, precision))


def _settings(engine: OpenVINO, precision: str, threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _hint(engine, precision),
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        **(_bert_int8.SETTINGS if precision == _bert_int8.DYNAMIC else {}),
    }


def _hint(engine: OpenVINO, precision: str) -> str:
    # What is not in eight bits, such as norms, is computed as the machine does best.
    return engine.precisions()[0] if precision in (*_compress.COMPUTED, _bert_int8.DYNAMIC) else precision


def _from_safetensors(network: Network) -> bool:
    """Return whether a network's graph is built here from the weights of a text encoder."""
    if _compress.form_of(network) or network.library in (*_graphs.LIBRARIES, "yolox"):
        return False
    if network.use != "embed" or network.weights.suffix != ".safetensors":
        return False
    return not (_small_graph.concerns(network) or _openvino_torch.concerns(network))


def _graph(network: Network) -> Any:
    """Return a network's graph."""
    if _compress.form_of(network):
        return _compress.read(network, _core())
    if network.library in _graphs.LIBRARIES:
        return _openvino_graphs.read(network, _core())
    if network.library == "yolox":
        return _yolox_graph.build(network)
    if _openvino_torch.concerns(network):
        return _openvino_torch.read(network, _core())
    return _small_graph.build(network) if _small_graph.concerns(network) else _bert_graph.build(network)


def _gives_tokens(network: Network) -> bool:
    """Return whether a network's graph gives the vectors of tokens, which become those of texts (`TextSession`)."""
    known = network.library in (*_graphs.LIBRARIES, "yolox")
    return not (known or _openvino_torch.concerns(network) or _small_graph.concerns(network))


def _session(compiled: Any, network: Network) -> Session:
    """Return what runs a network's compiled graph."""
    if network.library in (*_graphs.LIBRARIES, "yolox"):
        return _openvino_graphs.GraphSession(compiled, network)
    if _openvino_torch.concerns(network):
        return _openvino_torch.session(compiled, network)
    if _small_graph.concerns(network):
        return _small_graph.SmallSession(compiled, network.backbone.width)
    return TextSession(compiled, network)


@final
class TextSession(Session):
    """A compiled text encoder: `ids` and `lengths` in, `embedding` (n, width) out."""

    def __init__(self, compiled: ov.CompiledModel, network: Network) -> None:
        self.requests, self.network = Requests(compiled), network
        self.pooled = _bert_pooled.is_pooled(compiled)

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `embedding` (n, width) float32, of unit length where the network asks for it."""
        rows = FEWER_ROWS if self.requests.splits else ROWS
        batches = list(_packing.batches(arrays["ids"], arrays["lengths"], CAPACITY, rows, MULTIPLE))
        way = _bert_pooled if self.pooled else _packing
        made = zip(batches, self.requests.each([self.job(each) for each in batches]), strict=True)
        return {"embedding": way.vectors(len(arrays["lengths"]), self.network, made)}

    def job(self, packed: _packing.Packed) -> list[np.ndarray]:
        """Return what the graph reads of a batch."""
        plain = [packed.ids, packed.position, packed.segment]
        return [*plain, _bert_pooled.chosen(packed, self.network)] if self.pooled else plain


@cache
def _core() -> ov.Core:
    return ov.Core()
