"""The BERT family with matrix products of eight bits, whose ranges are those of each token at the moment.

Weights are rounded to 256 steps once, in groups that each have their own range. What they are multiplied by is rounded
by OpenVINO while it runs, in groups of the same size within each token (dynamic quantisation), so no rows of the user's
are needed, and a text's vector does not depend on the texts beside it. Channels that are much larger than others would
widen the range of their group: they are divided before the product, and the weights multiplied (Xiao and others 2023,
arXiv:2211.10438). Which channels those are is found with random words. The projection to values, a twelfth of the
products in a network of the usual widths, is left as it is: with it, MiniLM's lowest cosines fall below .9995.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from itertools import cycle
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from headstart.core import VERSION
from headstart.core.backbone import Network
from headstart.core.errors import HeadstartError
from headstart.core.files import atomic_file, cache_folder
from headstart.core.threads import processor_flags
from headstart.formats import _bert_graph
from headstart.formats._openvino import op, ov

DYNAMIC = "int8-dynamic"
"""What this precision is called."""
GROUP = 64
"""Numbers that share a range."""
FLAGS = {"avx512_vnni", "avx_vnni"}
"""Processors with one of these multiply eight-bit numbers; on others the weights would only be widened again."""
SETTINGS = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP}
STEPS = 255
READERS = ("query", "inner")
"""Layers before which channels are divided; keys share what queries read."""
WORDS = (16, 64)
"""Rows and tokens of the random words."""


def offered(network: Network) -> bool:
    """Return whether a text encoder of the BERT family runs at this precision here."""
    if not FLAGS & processor_flags() or _bert_graph.unsupported(network):
        return False
    try:
        widths = [wide for wide, _ in _bert_graph.linears(network).values()]
    except (HeadstartError, OSError, KeyError, ValueError, SafetensorError):
        return False  # Opening it tells what is wrong with it.
    return all(wide % GROUP == 0 for wide in widths)


def rounded(graph: ov.Model, network: Network, core: ov.Core) -> ov.Model:
    """Return the graph that `_bert_graph.build` made of a network, changed in place, whatever was added to it."""
    sizes, products = channel_sizes(network, core), _products(graph)
    for name, role in _roles(network).items():
        if role == "value":
            continue
        product = products[name]
        weights = product.input_value(1).get_node().get_data()
        if role in READERS:
            scale = np.sqrt(np.maximum(sizes[name] / max(float(np.median(sizes[name])), 1e-6), 1.0))
            divided = op.multiply(product.input_value(0), op.constant((1 / scale).astype(np.float32)))
        if role in (*READERS, "key"):  # A block's key comes behind its query.
            weights = weights * scale
            product.input(0).replace_source_output(divided.output(0))
        product.input(1).replace_source_output(_in_groups(weights).output(0))
    graph.validate_nodes_and_infer_types()
    return graph


def channel_sizes(network: Network, core: ov.Core) -> dict[str, np.ndarray]:
    """Return the largest value of each channel that goes into attention and feed-forward layers, with random words.

    They are kept in the cache, where that can be written.
    """
    file = network.weights.stat()
    identity = [VERSION, network.backbone.checksum, str(network.weights), file.st_size, file.st_mtime_ns]
    name = hashlib.blake2b(json.dumps(identity).encode(), digest_size=12).hexdigest()
    kept = cache_folder() / "ranges" / f"{name}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        return dict(load_file(kept))
    found = _measured(network, core)
    with contextlib.suppress(HeadstartError, OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(kept) as part:
            save_file(found, part)
    return found


def _measured(network: Network, core: ov.Core) -> dict[str, np.ndarray]:
    graph, tensors = _bert_graph.build(network), _bert_graph.Tensors(network.weights)
    names, products = _bert_graph.FAMILY[network.architecture], _products(graph)
    sites = [name for name, role in _roles(network).items() if role in READERS]
    watched = ov.Model([products[name].input_value(0) for name in sites], graph.get_parameters(), "channels")
    first = int(network.config.get("pad_token_id", 1)) + 1 if names.first_position else 0
    rows, tokens = WORDS
    tokens = min(tokens, tensors.shape(f"{names.position}.weight")[0] - first)
    words = np.random.default_rng(0).integers(0, tensors.shape(f"{names.word}.weight")[0], (rows, tokens))
    position = np.tile(np.arange(tokens, dtype=np.int32), (rows, 1))
    compiled = core.compile_model(watched, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    made = compiled([words.astype(np.int32), position, np.zeros_like(position)])
    return {name: np.abs(made[place]).max(axis=(0, 1)) for place, name in enumerate(sites)}


def _roles(network: Network) -> dict[str, str]:
    """Return what each linear layer of the blocks is for, by its name, block by block."""
    return dict(zip(_bert_graph.linears(network), cycle(_bert_graph.LINEARS), strict=False))


def _products(graph: ov.Model) -> dict[str, Any]:
    """Return the graph's matrix products by name; a linear layer's has the layer's own."""
    return {each.get_friendly_name(): each for each in graph.get_ordered_ops() if each.get_type_name() == "MatMul"}


def _in_groups(weights: np.ndarray) -> Any:
    """Return weights (out, in) as OpenVINO reads narrow ones: (steps - zero) * range of each group."""
    out, wide = weights.shape
    grouped = weights.reshape(out, wide // GROUP, GROUP)
    low, high = np.minimum(grouped.min(axis=2, keepdims=True), 0), np.maximum(grouped.max(axis=2, keepdims=True), 0)
    step = np.maximum((high - low) / STEPS, np.finfo(np.float32).tiny)
    zero = np.rint(-low / step)
    steps = np.clip(np.rint(grouped / step) + zero, 0, STEPS).astype(np.uint8)
    parts = (op.convert(op.constant(each), np.float32) for each in (steps, zero.astype(np.uint8)))
    wide_again = op.multiply(op.subtract(*parts), op.constant(step.astype(np.float32)))
    return op.reshape(wide_again, op.constant(np.array([out, wide], np.int64)), False)
