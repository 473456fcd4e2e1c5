"""The BERT family with fewer feed-forward channels in every layer, chosen and made up for on a user's own texts.

Layers are pruned one after the other. Each is fitted so that, on what the pruned layers below it give, it gives what it
gave in the whole network; so it also makes up for what these have changed. The channels are gone from the weights, and
the configuration tells of fewer, as many in every layer: whatever opens the network opens it so, and runs faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from headstart.core.arrays import Arrays
from headstart.core.backbone import Network
from headstart.core.errors import UsageError
from headstart.core.pruning import Moments, Pruned, pruned
from headstart.core.written import written
from headstart.formats import _bert_graph, _packing
from headstart.formats._bert_graph import FAMILY, Tensors, block_diagonal, embed, epsilon, layer
from headstart.formats._openvino import op, ov

TOKENS = 8
"""Tokens for each channel, about, by which channels are chosen and those that stay are fitted."""
CAPACITY, ROWS, MULTIPLE = 128, 16, 16
"""Tokens of a packed row, rows of a batch, and what a batch's width is a multiple of."""
EVEN = 16
"""What the number of channels that stay is a multiple of."""
PARTS = ("weight", "bias")


def unsupported(network: Network) -> str:
    """Return an empty string, or the reason why channels cannot be left out of a network."""
    if network.use != "embed" or network.library != "transformers" or network.weights.suffix != ".safetensors":
        return "channels are left out of text encoders of the BERT family in one safetensors file"
    return _bert_graph.unsupported(network)


def prune(network: Network, share: float, given: Sequence[Arrays], core: ov.Core, folder: Path) -> Network:
    """Write a network without a share of its feed-forward channels, and return it as it is there.

    Args:
        network: one of the family, in one safetensors file.
        share: of the channels that are left out.
        given: encoded texts, in batches.

    Raises:
        UsageError: no channel would stay or go, or there are no texts.
    """
    names, tensors = FAMILY[network.architecture], Tensors(network.weights)
    count = len(tensors[f"{names.inner.format(0)}.bias"])
    keep = EVEN * round(count * (1 - share) / EVEN)
    if not 0 < keep < count:
        raise UsageError(
            f"{share:.0%} of {count} feed-forward channels cannot be left out.",
            allowed=f"Shares that leave a multiple of {EVEN}, and some that go, such as 0.25.",
        )
    weights = {name: tensors.file.get_tensor(name) for name in list(tensors.file.keys())}
    for each, found in enumerate(_layers(network, tensors, keep, given, core)):
        inner, outer = names.inner.format(each), names.outer.format(each)
        old = {f"{name}.{part}": tensors.names[f"{name}.{part}"] for name in (inner, outer) for part in PARTS}
        weights |= {old[f"{inner}.{part}"]: weights[old[f"{inner}.{part}"]][found.kept] for part in PARTS}
        for part, values in zip(PARTS, (found.weight, found.bias), strict=True):
            name = old[f"{outer}.{part}"]
            weights[name] = values.astype(weights[name].dtype)
    made = written(network, folder, lambda out: save_file(weights, out, {"format": "pt"}), {names.channels: keep})
    parameters = sum(int(each.size) for each in weights.values())
    return replace(made, backbone=replace(made.backbone, parameters=parameters))


def _layers(network: Network, tensors: Tensors, keep: int, given: Sequence[Arrays], core: ov.Core) -> list[Pruned]:
    """Return each layer's outer feed-forward part with fewer channels."""
    names, made = FAMILY[network.architecture], list[Pruned]()
    packed = _packed(given, TOKENS * len(tensors[f"{names.inner.format(0)}.bias"]))
    embedded = _embedded(network, tensors, core)
    whole = [embedded(each) for each in packed]
    mine = list(whole)
    for each in range(int(network.config[names.layers])):
        run = _layer(network, tensors, each, core)
        weight, bias = (tensors[f"{names.outer.format(each)}.{part}"] for part in PARTS)
        moments, inside = Moments(*weight.shape[::-1]), []
        for place, batch in enumerate(packed):
            attended, inner = run(whole[place], batch.segment)
            wanted = attended + inner @ weight.T + bias
            if each:
                attended, inner = run(mine[place], batch.segment)
            real = batch.segment >= 0
            moments.add(inner[real], (wanted - attended)[real])
            inside.append((attended, inner))
            whole[place] = _norm(network, tensors, each, wanted)
        found = pruned(moments, weight, keep)
        for place, (attended, inner) in enumerate(inside):
            outer = attended + inner[..., found.kept] @ found.weight.T + found.bias
            mine[place] = _norm(network, tensors, each, outer)
        made.append(found)
    return made


def _packed(given: Sequence[Arrays], most: int) -> list[_packing.Packed]:
    """Return texts packed into batches, of `most` tokens and a batch at most."""
    found, tokens = list[_packing.Packed](), 0
    for arrays in given:
        for each in _packing.batches(arrays["ids"], arrays["lengths"], CAPACITY, ROWS, MULTIPLE):
            if tokens < most:
                found.append(each)
                tokens += int(each.lengths.sum())
    if not found:
        raise UsageError("There are no texts by which channels could be chosen.")
    return found


def _embedded(network: Network, tensors: Tensors, core: ov.Core) -> Any:
    """Return what turns a batch into what the first layer is given."""
    given = [op.parameter([-1, -1], np.int32, name) for name in ("ids", "position")]
    graph = ov.Model([op.result(embed(network, tensors, *given))], given, "embeddings")
    request = _compiled(graph, core)
    return lambda batch: np.array(request.infer([batch.ids, batch.position])[0])


def _layer(network: Network, tensors: Tensors, each: int, core: ov.Core) -> Any:
    """Return what turns a layer's input and its segments into what `layer` says, as the whole network does it."""
    width = len(tensors[f"{FAMILY[network.architecture].outer.format(each)}.bias"])
    x, segment = op.parameter([-1, -1, width], np.float32, "x"), op.parameter([-1, -1], np.int32, "segment")
    found = layer(network, tensors, each, x, block_diagonal(segment))
    request = _compiled(ov.Model([op.result(part) for part in found], [x, segment], "layer"), core)

    def run(x: np.ndarray, segment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = request.infer([x, segment])
        return np.array(outputs[0]), np.array(outputs[1])

    return run


def _compiled(graph: ov.Model, core: ov.Core) -> ov.InferRequest:
    return core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()


def _norm(network: Network, tensors: Tensors, each: int, values: np.ndarray) -> np.ndarray:
    """Return what a layer gives at its end."""
    name = FAMILY[network.architecture].outer_norm.format(each)
    centred = values - values.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon(network))
    return centred / spread * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
