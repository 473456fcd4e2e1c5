"""The BERT family as an OpenVINO graph, built straight from its safetensors: no torch, no export.

Several texts stand in one row of tokens. `segment` numbers them (-1 is padding), a token attends only to tokens of its
own segment, and `position` restarts at each text, so the result is that of each text alone, without its padding.
Architecture: Vaswani et al. 2017; Devlin et al. 2019 (post-norm encoder, learnt positions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

from headstart.core.backbone import Network
from headstart.core.errors import HubError, listed
from headstart.formats._openvino import op, ov


@dataclass(frozen=True)
class Names:
    """How one architecture names its tensors and settings; `{}` stands for the layer's number."""

    word: str = "embeddings.word_embeddings"
    position: str = "embeddings.position_embeddings"
    token_type: str = "embeddings.token_type_embeddings"
    norm: str = "embeddings.LayerNorm"
    project: str = "embeddings_project"
    query: str = "encoder.layer.{}.attention.self.query"
    key: str = "encoder.layer.{}.attention.self.key"
    value: str = "encoder.layer.{}.attention.self.value"
    attended: str = "encoder.layer.{}.attention.output.dense"
    attended_norm: str = "encoder.layer.{}.attention.output.LayerNorm"
    inner: str = "encoder.layer.{}.intermediate.dense"
    outer: str = "encoder.layer.{}.output.dense"
    outer_norm: str = "encoder.layer.{}.output.LayerNorm"
    heads: str = "num_attention_heads"
    layers: str = "num_hidden_layers"
    act: str = "hidden_act"
    channels: str = "intermediate_size"
    first_position: bool = False
    """Whether positions start after the padding token's number, as RoBERTa's do."""


FAMILY = {
    "bert": Names(),
    "electra": Names(),
    "roberta": Names(first_position=True),
    "xlm-roberta": Names(first_position=True),
    "camembert": Names(first_position=True),
    "distilbert": Names(
        query="transformer.layer.{}.attention.q_lin",
        key="transformer.layer.{}.attention.k_lin",
        value="transformer.layer.{}.attention.v_lin",
        attended="transformer.layer.{}.attention.out_lin",
        attended_norm="transformer.layer.{}.sa_layer_norm",
        inner="transformer.layer.{}.ffn.lin1",
        outer="transformer.layer.{}.ffn.lin2",
        outer_norm="transformer.layer.{}.output_layer_norm",
        heads="n_heads",
        layers="n_layers",
        act="activation",
        channels="hidden_dim",
    ),
}
LINEARS = ("query", "key", "value", "attended", "inner", "outer")
"""The linear layers of a block, in the order in which they run."""
ACTIVATIONS: Mapping[str, Callable[[ov.Output], ov.Node]] = {
    "gelu": lambda x: op.gelu(x, "erf"),
    "gelu_new": lambda x: op.gelu(x, "tanh"),
    "gelu_pytorch_tanh": lambda x: op.gelu(x, "tanh"),
    "relu": op.relu,
    "silu": op.swish,
}
HIDDEN = -1e4
"""What masked attention scores get; small enough for every precision to round its softmax to 0."""


def unsupported(network: Network) -> str:
    """Return an empty string, or the reason why the network is not one of this family."""
    if network.architecture not in FAMILY:
        return f"its architecture is '{network.architecture}'; built without torch: {listed(FAMILY)}"
    names = FAMILY[network.architecture]
    if network.config.get("position_embedding_type", "absolute") != "absolute":
        return f"its positions are '{network.config['position_embedding_type']}', not absolute"
    if network.config.get(names.act, "gelu") not in ACTIVATIONS:
        return f"its activation is '{network.config[names.act]}'; known: {listed(ACTIVATIONS)}"
    return ""


class Tensors:
    """The weights of a safetensors file by name, whatever prefix the file gives them, as float32."""

    def __init__(self, path: Path) -> None:
        self.file = safe_open(path, framework="numpy")
        self.names = {_bare(name): name for name in self.file.keys()}  # noqa: SIM118  (not a dict)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise HubError(f"The weights have no tensor '{name}'.", allowed=f"Tensors: {listed(self.names)}.")
        return np.ascontiguousarray(self.file.get_tensor(self.names[name]), dtype=np.float32)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, without reading it."""
        return tuple(self.file.get_slice(self.names[name]).get_shape())


def _bare(name: str) -> str:
    # The first BERT checkpoints call a norm's parameters so.
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    head, _, rest = name.partition(".")
    return rest if head in (*FAMILY, "model", "0") or head.endswith("_model") else name


Change = Callable[[str, ov.Node, ov.Node], ov.Node]
"""Takes a layer's name, what it reads and what it gives, and returns what it is to give instead."""


def linears(network: Network) -> dict[str, tuple[int, int]]:
    """Return the linear layers of the encoder's blocks by name, with the widths (in, out) of each."""
    names, tensors = FAMILY[network.architecture], Tensors(network.weights)
    each = [getattr(names, role) for role in LINEARS]
    found = [name.format(layer) for layer in range(int(network.config[names.layers])) for name in each]
    shapes = {name: tensors.shape(f"{name}.weight") for name in found}
    return {name: (shape[1], shape[0]) for name, shape in shapes.items()}


def build(network: Network, change: Change | None = None, inputs: Sequence[ov.Node] = ()) -> ov.Model:
    """Return the graph: `ids`, `position` and `segment` (rows, tokens) in, `hidden` (rows, tokens, width) out.

    Args:
        change: changes what the linear layers of its blocks give.
        inputs: more of the graph's inputs, which `change` reads.
    """
    names, tensors = FAMILY[network.architecture], Tensors(network.weights)
    ids, position, segment = (op.parameter([-1, -1], np.int32, name) for name in ("ids", "position", "segment"))
    x, mask = embed(network, tensors, ids, position), block_diagonal(segment)

    def linear(name: str, given: ov.Node) -> ov.Node:
        made = _linear(tensors, name, given)
        return made if change is None else change(name, given, made)

    for each in range(int(network.config[names.layers])):
        attended, inner = layer(network, tensors, each, x, mask, linear)
        outer = linear(names.outer.format(each), inner)
        x = _norm(tensors, names.outer_norm.format(each), op.add(attended, outer), epsilon(network))
    return ov.Model([op.result(x, name="hidden")], [ids, position, segment, *inputs], network.architecture)


Linear = Callable[[str, ov.Node], ov.Node]
"""Gives a linear layer's outputs by its name."""


def layer(
    network: Network, tensors: Tensors, each: int, x: ov.Node, mask: ov.Node, linear: Linear
) -> tuple[ov.Node, ov.Node]:
    """Return what a layer's attention gives (rows, tokens, width), and the feed-forward channels that it leads to."""
    attended = linear(
        FAMILY[network.architecture].attended.format(each), heads(network, tensors, each, x, mask, linear)
    )
    return inner(network, tensors, each, op.add(x, attended), linear)


def heads(
    network: Network, tensors: Tensors, each: int, x: ov.Node, mask: ov.Node, linear: Linear | None = None
) -> ov.Node:
    """Return what the heads of a layer see (rows, tokens, channels), of all heads that have not been pruned.

    Args:
        linear: gives what the linear layers do; as the weights are where None.
    """
    linear = linear or (lambda name, given: _linear(tensors, name, given))
    names, wide = FAMILY[network.architecture], head_width(network, tensors)
    channels = tensors.shape(f"{names.query.format(each)}.weight")[0]
    split = op.constant(np.array([0, 0, channels // wide, wide], np.int64))
    join = op.constant(np.array([0, 0, channels], np.int64))
    swap = op.constant(np.array([0, 2, 1, 3], np.int64))
    parts = [linear(name.format(each), x) for name in (names.query, names.key, names.value)]
    query, key, value = (op.transpose(op.reshape(part, split, True), swap) for part in parts)
    attended = op.scaled_dot_product_attention(query, key, value, mask)
    return op.reshape(op.transpose(attended, swap), join, True)


def head_width(network: Network, tensors: Tensors) -> int:
    """Return how many channels a head has: as many whether others have been pruned or not."""
    names = FAMILY[network.architecture]
    return tensors.shape(f"{names.attended.format(0)}.weight")[0] // int(network.config[names.heads])


def inner(
    network: Network, tensors: Tensors, each: int, attended: ov.Node, linear: Linear | None = None
) -> tuple[ov.Node, ov.Node]:
    """Return what a layer's attention gives once normed (rows, tokens, width), and the feed-forward channels behind it.

    Args:
        attended: the layer's input and what its attention adds to it.
        linear: gives what the linear layers do; as the weights are where None.
    """
    linear = linear or (lambda name, given: _linear(tensors, name, given))
    names = FAMILY[network.architecture]
    x = _norm(tensors, names.attended_norm.format(each), attended, epsilon(network))
    activation = ACTIVATIONS[network.config.get(names.act, "gelu")]
    return x, activation(linear(names.inner.format(each), x))


def epsilon(network: Network) -> float:
    """Return what a network's norms add to the variance."""
    return float(network.config.get("layer_norm_eps", 1e-12))


def embed(network: Network, tensors: Tensors, ids: ov.Node, position: ov.Node) -> ov.Node:
    """Return what the first layer is given, (rows, tokens, width)."""
    names = FAMILY[network.architecture]
    axis = op.constant(np.int64(0))
    if names.first_position:
        position = op.add(position, op.constant(np.int32(network.config.get("pad_token_id", 1) + 1)))
    word = op.gather(_constant(tensors[f"{names.word}.weight"]), ids, axis)
    table = tensors[f"{names.position}.weight"]
    if f"{names.token_type}.weight" in tensors:
        table = table + tensors[f"{names.token_type}.weight"][0]
    x = op.add(word, op.gather(_constant(table), position, axis))
    x = _norm(tensors, names.norm, x, epsilon(network))
    return _linear(tensors, names.project, x) if f"{names.project}.weight" in tensors else x


def block_diagonal(segment: ov.Node) -> ov.Node:
    """Return (rows, 1, tokens, tokens): 0 within a segment, `HIDDEN` across."""
    rows = op.unsqueeze(segment, op.constant(np.int64(2)))
    columns = op.unsqueeze(segment, op.constant(np.int64(1)))
    mask = op.select(op.equal(rows, columns), op.constant(np.float32(0)), op.constant(np.float32(HIDDEN)))
    return op.unsqueeze(mask, op.constant(np.int64(1)))


def _linear(tensors: Tensors, name: str, x: ov.Node) -> ov.Node:
    product = op.matmul(x, _constant(tensors[f"{name}.weight"]), False, True)
    product.set_friendly_name(name)
    return op.add(product, _constant(tensors[f"{name}.bias"]))


def _norm(tensors: Tensors, name: str, x: ov.Node, epsilon: float) -> ov.Node:
    normal = op.mvn(x, op.constant(np.array([-1], np.int64)), True, epsilon, "inside_sqrt")
    return op.add(op.multiply(normal, _constant(tensors[f"{name}.weight"])), _constant(tensors[f"{name}.bias"]))


def _constant(values: np.ndarray) -> ov.Node:
    return op.constant(values)
