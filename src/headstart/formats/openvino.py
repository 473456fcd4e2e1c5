"""Run networks on CPUs with OpenVINO, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError, listed
from headstart.core.format import Format
from headstart.formats import (
    _bert_graph,
    _graphs,
    _openvino_graphs,
    _openvino_torch,
    _packing,
    _small_graph,
    _yolox_graph,
)
from headstart.formats._openvino import ov

CAPACITY = 128
"""Tokens of a packed row."""
ROWS = 16
"""Rows of a batch."""
MULTIPLE = 16
"""A batch's width is a multiple of it."""


@final
class OpenVINO(Format):
    """OpenVINO's CPU plugin. Networks of the BERT family are built from their safetensors; saved graphs are read."""

    tolerance = 5e-4

    def precisions(self) -> list[str]:
        """Return bf16 first where the processor computes in it, then f32."""
        able = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ["bf16", "f32"] if able else ["f32"]

    def supports(self, network: Network) -> str:
        """Return an empty string for a text encoder of the BERT family or a saved graph that it reads, else why not."""
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
            UsageError: the precision is unknown.
        """
        reason = self.supports(network)
        if reason:
            raise HubError(f"'{network.backbone.reference}' cannot be opened: {reason}.")
        if precision not in ("bf16", "f32"):
            raise UsageError(
                f"There is no precision '{precision}'.", allowed=f"Precisions: {listed(self.precisions())}."
            )
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        if network.library in _graphs.LIBRARIES:
            return _openvino_graphs.GraphSession(
                _core().compile_model(_openvino_graphs.read(network, _core()), "CPU", settings), network
            )
        if network.library == "yolox":
            compiled = _core().compile_model(_yolox_graph.build(network), "CPU", settings)
            return _openvino_graphs.GraphSession(compiled, network)
        if _openvino_torch.concerns(network):
            compiled = _core().compile_model(_openvino_torch.read(network, _core()), "CPU", settings)
            return _openvino_torch.PixelSession(compiled)
        if _small_graph.concerns(network):
            compiled = _core().compile_model(_small_graph.build(network), "CPU", settings)
            return _small_graph.SmallSession(compiled, network.backbone.width)
        return TextSession(_core().compile_model(_bert_graph.build(network), "CPU", settings), network)

    def worked_out(self, network: Network) -> Mapping[str, Path]:
        """Return the folder that holds the graph traced from PyTorch, where there is one."""
        if not _openvino_torch.concerns(network):
            return {}
        place = _openvino_torch.place(network)
        return {_openvino_torch.CARRIED: place} if (place / _openvino_torch.GRAPH).is_file() else {}


@final
class TextSession(Session):
    """A compiled text encoder: `ids` and `lengths` in, `embedding` (n, width) out."""

    def __init__(self, compiled: ov.CompiledModel, network: Network) -> None:
        self.request = compiled.create_infer_request()
        self.mode, self.normalize = network.pooling["mode"], network.pooling["normalize"]
        self.width = network.backbone.width

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `embedding` (n, width) float32, of unit length where the network asks for it."""
        embedding = np.zeros((len(arrays["lengths"]), self.width), np.float32)
        for packed in _packing.batches(arrays["ids"], arrays["lengths"], CAPACITY, ROWS, MULTIPLE):
            hidden = self.request.infer(
                [packed.ids, packed.position, packed.segment], share_inputs=True, share_outputs=True
            )[0]
            embedding[packed.texts] = _packing.pool(hidden, packed, self.mode)
        if self.normalize:
            embedding /= np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
        return {"embedding": embedding}


@cache
def _core() -> ov.Core:
    return ov.Core()
