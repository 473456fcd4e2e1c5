"""The small text CNN (`formats/_small.py`) as an OpenVINO graph, built straight from its safetensors."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from safetensors.numpy import load_file

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.formats._openvino import op, ov

LEAST = -1e9
"""What stands where there is no token, so that it is never the largest."""
AT_ONCE = 64


def concerns(network: Network) -> bool:
    """Return whether it is a small network of texts."""
    return network.library == "small" and network.backbone.modality == "text"


def unsupported(network: Network) -> str:
    """Return an empty string, or why the network is left to PyTorch."""
    if network.use != "embed" or network.config.get("kind") != "cnn":
        return f"its kind is '{network.config.get('kind')}'; built without torch: 'cnn'"
    return "" if network.weights.suffix == ".safetensors" else "it has no weights yet"


def build(network: Network) -> ov.Model:
    """Return the graph: `ids` and `real` (rows, tokens) in, `embedding` (rows, width) out.

    Raises:
        HubError: a tensor is missing.
    """
    tensors = load_file(network.weights)
    ids, real = op.parameter([-1, -1], np.int32, "ids"), op.parameter([-1, -1], np.float32, "real")
    try:
        tokens = op.gather(op.constant(tensors["tokens.weight"]), ids, op.constant(np.int64(0)))
        inner = op.transpose(tokens, op.constant(np.array([0, 2, 1], np.int64)))
        missing = op.unsqueeze(
            op.multiply(op.subtract(op.constant(np.float32(1)), real), op.constant(np.float32(LEAST))),
            op.constant(np.int64(1)),
        )
        largest = []
        for number, size in enumerate(int(each) for each in network.config["windows"]):
            weight, bias = (tensors[f"filters.{number}.{part}"] for part in ("weight", "bias"))
            # As many places as there are tokens: a window of even size would have one more.
            made = op.convolution(inner, op.constant(weight), [1], [size // 2], [size - 1 - size // 2], [1])
            made = op.add(op.add(made, op.constant(bias.reshape(1, -1, 1))), missing)
            largest.append(op.reduce_max(made, op.constant(np.int64(2))))
    except KeyError as error:
        raise HubError(f"'{network.weights}' has no tensor {error}.", hint="Fit it again.") from error
    found = op.relu(op.concat(largest, 1))
    return ov.Model([op.result(found, name="embedding")], [ids, real], network.architecture)


@final
class SmallSession(Session):
    """A compiled text CNN: `ids` and `lengths` in, `embedding` (n, width) out."""

    def __init__(self, compiled: Any, width: int) -> None:
        self.request, self.width = compiled.create_infer_request(), width

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `embedding` (n, width) float32; texts of like length go through it together."""
        lengths = arrays["lengths"].astype(np.int64)
        starts, order = np.cumsum(lengths) - lengths, np.argsort(-lengths, kind="stable")
        embedding = np.zeros((len(lengths), self.width), np.float32)
        for first in range(0, len(order), AT_ONCE):
            rows = order[first : first + AT_ONCE]
            longest = max(1, int(lengths[rows[0]]))
            ids = np.zeros((len(rows), longest), np.int32)
            for place, row in enumerate(rows):
                # Token 0 stands for none.
                ids[place, : lengths[row]] = arrays["ids"][starts[row] : starts[row] + lengths[row]] + 1
            real = (np.arange(longest) < np.maximum(lengths[rows], 1)[:, None]).astype(np.float32)
            embedding[rows] = self.request.infer([ids, real])[0]
        return {"embedding": embedding}
