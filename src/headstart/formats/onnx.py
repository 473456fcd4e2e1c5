"""Run ONNX graphs with ONNX Runtime, and text encoders of the BERT family, which it builds such graphs of."""

from __future__ import annotations

import importlib.util
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError, listed
from headstart.core.format import Format
from headstart.core.registry import require
from headstart.formats import _bert_graph, _bert_onnx, _graphs


@final
class Onnx(Format):
    """ONNX Runtime on the CPU. OpenVINO, which runs convolutions several times as fast, is asked first."""

    tolerance = 1e-4
    rank = 2

    def precisions(self) -> list[str]:
        """Return f32, the only precision in which graphs are run."""
        return ["f32"]

    def supports(self, network: Network) -> str:
        """Return an empty string for an ONNX graph or a text encoder of the BERT family, else why not."""
        text = network.library == "transformers" and network.backbone.modality == "text" and network.use == "embed"
        if network.library != "onnx" and not text:
            return f"its library is '{network.library}', and ONNX Runtime runs ONNX graphs and text encoders only"
        missing = [name for name in ("onnxruntime", *(["onnx"] if text else [])) if not importlib.util.find_spec(name)]
        if missing:
            return f"the package '{missing[0]}' is not installed (pip install 'headstart[onnx]')"
        if not text:
            own = "its graph is in OpenVINO's own layout" if network.weights.suffix == ".xml" else ""
            return own or _graphs.unsupported(network)
        if network.weights.suffix != ".safetensors":
            return f"its weights are in '{network.weights.name}', not in one safetensors file"
        return _bert_graph.unsupported(network)

    def open(self, network: Network, precision: str, threads: int) -> Session:
        """Load the graph.

        Raises:
            MissingExtra: ONNX Runtime is not installed.
            HubError: it cannot run this graph.
        """
        runtime = require("onnxruntime", "onnx")
        if precision not in self.precisions():
            raise UsageError(
                f"There is no precision '{precision}'.", allowed=f"Precisions: {listed(self.precisions())}."
            )
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
        settings.log_severity_level = 3
        text = network.library != "onnx"
        graph = _bert_onnx.build(network) if text else str(network.weights)
        try:
            opened = runtime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no class in common.
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise HubError(f"ONNX Runtime cannot open '{network.weights.name}': {first[:200]}.") from error
        return _bert_onnx.TextSession(opened, network) if text else GraphSession(opened, network)


@final
class GraphSession(Session):
    """A loaded graph: `pixels` in; `logits`, `probabilities`, `embedding`, or boxes out."""

    def __init__(self, opened: Any, network: Network) -> None:
        self.opened, self.network = opened, network
        port = opened.get_inputs()[0]
        self.name = port.name
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
        self.kind = kinds.get(port.type, np.float32)

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the graph's outputs for `pixels`."""
        return _graphs.run(self.network, self._infer, arrays["pixels"])

    def _infer(self, pixels: np.ndarray) -> np.ndarray:
        given = np.rint(pixels) if self.kind == np.uint8 else pixels
        return np.asarray(self.opened.run(None, {self.name: np.ascontiguousarray(given, self.kind)})[0])
