"""The BERT family as an ONNX graph, built straight from its safetensors like `_bert_graph.py`: no torch, no export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.registry import require
from headstart.formats import _packing
from headstart.formats._bert_graph import FAMILY, HIDDEN, Names, Tensors, head_width

OPSET, LAYOUT = 20, 10
"""The first version of ONNX with a GELU of its own, and the layout of the file that knows it."""
CAPACITY, ROWS, MULTIPLE = 128, 16, 32
"""Tokens of a packed row, rows of a batch, and what a batch's width is a multiple of: few shapes, each planned once."""
ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "relu": "", "silu": ""}
"""How ONNX approximates each activation, empty where it is no GELU."""


@dataclass
class Graph:
    """A graph that grows node by node; a value is known by its name."""

    onnx: Any
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def constant(self, values: np.ndarray) -> str:
        """Add numbers that stay as they are."""
        name = f"w{len(self.weights)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, *given: str, **settings: Any) -> str:
        """Add a node and return what it gives."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(given), [name], **settings))
        return name

    def linear(self, tensors: Tensors, name: str, x: str) -> str:
        """Add a linear layer."""
        product = self.add("MatMul", x, self.constant(tensors[f"{name}.weight"].T))
        return self.add("Add", product, self.constant(tensors[f"{name}.bias"]))

    def norm(self, tensors: Tensors, name: str, x: str, epsilon: float) -> str:
        """Add a layer norm."""
        scale, shift = (self.constant(tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)

    def activation(self, name: str, x: str) -> str:
        """Add an activation."""
        if name == "relu":
            return self.add("Relu", x)
        if name == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        return self.add("Gelu", x, approximate=ACTIVATIONS[name])


def build(network: Network) -> bytes:
    """Return the graph: `ids`, `position` and `segment` (rows, tokens) in, `hidden` (rows, tokens, width) out.

    Raises:
        HubError: a tensor is missing.
        MissingExtra: the package onnx is not installed.
    """
    onnx = require("onnx", "onnx")
    names, tensors, graph = FAMILY[network.architecture], Tensors(network.weights), Graph(onnx)
    layers = int(network.config[names.layers])
    epsilon = float(network.config.get("layer_norm_eps", 1e-12))
    x = _embed(graph, network, names, tensors, epsilon)
    mask = _block_diagonal(graph)
    wide = head_width(network, tensors) if layers else 1
    split, join = (graph.constant(np.array([0, 0, *each], np.int64)) for each in ((-1, wide), (-1,)))
    scale = graph.constant(np.array(wide**-0.5, np.float32))
    activation = network.config.get(names.act, "gelu")
    for each in range(layers):
        parts = [graph.linear(tensors, name.format(each), x) for name in (names.query, names.key, names.value)]
        query, key, value = (graph.add("Reshape", part, split) for part in parts)
        scores = graph.add(
            "MatMul",
            graph.add("Mul", graph.add("Transpose", query, perm=[0, 2, 1, 3]), scale),
            graph.add("Transpose", key, perm=[0, 2, 3, 1]),
        )
        shares = graph.add("Softmax", graph.add("Add", scores, mask), axis=-1)
        attended = graph.add("MatMul", shares, graph.add("Transpose", value, perm=[0, 2, 1, 3]))
        attended = graph.add("Reshape", graph.add("Transpose", attended, perm=[0, 2, 1, 3]), join)
        attended = graph.linear(tensors, names.attended.format(each), attended)
        x = graph.norm(tensors, names.attended_norm.format(each), graph.add("Add", x, attended), epsilon)
        inner = graph.activation(activation, graph.linear(tensors, names.inner.format(each), x))
        outer = graph.linear(tensors, names.outer.format(each), inner)
        x = graph.norm(tensors, names.outer_norm.format(each), graph.add("Add", x, outer), epsilon)
    return _written(graph, network.architecture, x)


def _embed(graph: Graph, network: Network, names: Names, tensors: Tensors, epsilon: float) -> str:
    position = "position"
    if names.first_position:
        first = graph.constant(np.array(network.config.get("pad_token_id", 1) + 1, np.int32))
        position = graph.add("Add", position, first)
    table = tensors[f"{names.position}.weight"]
    if f"{names.token_type}.weight" in tensors:
        table = table + tensors[f"{names.token_type}.weight"][0]
    word = graph.add("Gather", graph.constant(tensors[f"{names.word}.weight"]), "ids")
    x = graph.add("Add", word, graph.add("Gather", graph.constant(table), position))
    x = graph.norm(tensors, names.norm, x, epsilon)
    return graph.linear(tensors, names.project, x) if f"{names.project}.weight" in tensors else x


def _block_diagonal(graph: Graph) -> str:
    """Return (rows, 1, tokens, tokens): 0 within a segment, `HIDDEN` across."""
    rows = graph.add("Unsqueeze", "segment", graph.constant(np.array([1, 3], np.int64)))
    columns = graph.add("Unsqueeze", "segment", graph.constant(np.array([1, 2], np.int64)))
    none, hidden = (graph.constant(np.array(each, np.float32)) for each in (0, HIDDEN))
    return graph.add("Where", graph.add("Equal", rows, columns), none, hidden)


def _written(graph: Graph, name: str, last: str) -> bytes:
    helper, kinds = graph.onnx.helper, graph.onnx.TensorProto
    graph.nodes.append(helper.make_node("Identity", [last], ["hidden"]))
    inputs = [
        helper.make_tensor_value_info(each, kinds.INT32, ["rows", "tokens"]) for each in ("ids", "position", "segment")
    ]
    outputs = [helper.make_tensor_value_info("hidden", kinds.FLOAT, ["rows", "tokens", "width"])]
    made = helper.make_graph(graph.nodes, name, inputs, outputs, graph.weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=LAYOUT)
    return bytes(model.SerializeToString())


@final
class TextSession(Session):
    """A text encoder in ONNX Runtime: `ids` and `lengths` in, `embedding` (n, width) out."""

    def __init__(self, opened: Any, network: Network) -> None:
        self.opened, self.network = opened, network

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `embedding` (n, width) float32, of unit length where the network asks for it."""
        batches = _packing.batches(arrays["ids"], arrays["lengths"], CAPACITY, ROWS, MULTIPLE)
        made = ((each, self._hidden(each)) for each in batches)
        return {"embedding": _packing.vectors(len(arrays["lengths"]), self.network, made)}

    def _hidden(self, packed: _packing.Packed) -> np.ndarray:
        given: Sequence[np.ndarray] = [packed.ids, packed.position, packed.segment]
        named = dict(zip(("ids", "position", "segment"), given, strict=True))
        return np.asarray(self.opened.run(None, named)[0])
