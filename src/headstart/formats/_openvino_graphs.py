"""Saved graphs (ONNX, SavedModel, TFLite) in OpenVINO, which reads all of them by itself."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.formats import _graphs
from headstart.formats._openvino import ov


def unsupported(network: Network, core: ov.Core) -> str:
    """Return an empty string, or why OpenVINO cannot run the graph."""
    reason = _graphs.unsupported(network)
    if reason:
        return reason
    try:
        read(network, core)
    except HubError as error:
        return error.problem.rstrip(".")
    return ""


def read(network: Network, core: ov.Core) -> Any:
    """Return the graph as OpenVINO reads it.

    Raises:
        HubError: it holds operations that OpenVINO does not have, or is damaged.
    """
    try:
        return core.read_model(str(network.weights))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise HubError(
            f"OpenVINO cannot read '{network.weights.name}': {lines[-1][:200] if lines else 'no reason given'}."
        ) from error


@final
class GraphSession(Session):
    """A compiled graph: `pixels` in; `logits`, `probabilities`, `embedding`, or boxes out."""

    def __init__(self, compiled: Any, network: Network) -> None:
        self.compiled, self.network = compiled, network
        self.request = compiled.create_infer_request()
        self.kind = compiled.inputs[0].get_element_type().to_dtype()

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the graph's outputs for `pixels`."""
        return _graphs.run(self.network, self._infer, arrays["pixels"])

    def _infer(self, pixels: np.ndarray) -> np.ndarray:
        given = pixels if self.kind == np.float32 else np.rint(pixels).astype(self.kind)
        return np.array(self.request.infer([np.ascontiguousarray(given)])[0])
