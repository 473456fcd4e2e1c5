"""The BERT family with fewer feed-forward channels or attention heads, chosen and made up for on a user's own texts.

Layers are pruned one after the other, in each first the heads. Each is fitted so that, on what the pruned layers below
it give, it gives what it gave in the whole network; so it also makes up for what these have changed. What is left out
is gone from the weights, as much in every layer. Of channels the configuration tells, and whatever opens the network
opens it so. Of heads it tells as transformers up to version 4 did (`pruned_heads`); version 5 opens no such network.
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
from headstart.formats._bert_graph import FAMILY, Tensors, block_diagonal, embed, epsilon, head_width
from headstart.formats._bert_graph import heads as heads_of
from headstart.formats._bert_graph import inner as inner_of
from headstart.formats._openvino import op, ov

TOKENS = 8
"""Tokens for each channel, about, by which channels are chosen and those that stay are fitted."""
CAPACITY, ROWS, MULTIPLE = 128, 16, 16
"""Tokens of a packed row, rows of a batch, and what a batch's width is a multiple of."""
EVEN = 16
"""What the number of channels that stay is a multiple of."""
PARTS = ("weight", "bias")


def unsupported(network: Network) -> str:
    """Return an empty string, or the reason why nothing can be left out of a network."""
    if network.use != "embed" or network.library != "transformers" or network.weights.suffix != ".safetensors":
        return "channels and heads are left out of text encoders of the BERT family in one safetensors file"
    return _bert_graph.unsupported(network)


def prune(
    network: Network, share: float, given: Sequence[Arrays], core: ov.Core, folder: Path, heads: float = 0.0
) -> Network:
    """Write a network without a share of its feed-forward channels or heads, and return it as it is there.

    Args:
        network: one of the family, in one safetensors file.
        share: of the channels that are left out; 0 leaves all.
        given: encoded texts, in batches.
        heads: share of the attention heads that are left out; 0 leaves all.

    Raises:
        UsageError: none would stay or go, or there are no texts.
    """
    names, tensors = FAMILY[network.architecture], Tensors(network.weights)
    count, wide = len(tensors[f"{names.inner.format(0)}.bias"]), head_width(network, tensors)
    whole = tensors.shape(f"{names.query.format(0)}.weight")[0] // wide
    channels, left = EVEN * round(count * (1 - share) / EVEN), round(whole * (1 - heads))
    if (share or not heads) and not 0 < channels < count:
        raise UsageError(
            f"{share:.0%} of {count} feed-forward channels cannot be left out.",
            allowed=f"Shares that leave a multiple of {EVEN}, and some that go, such as 0.25.",
        )
    if heads and not 0 < left < whole:
        raise UsageError(
            f"{heads:.0%} of {whole} attention heads cannot be left out.",
            allowed="Shares that leave some, and not all.",
        )
    keep = (left if heads else 0, channels if share else 0)
    weights = {name: tensors.file.get_tensor(name) for name in list(tensors.file.keys())}
    changes: dict[str, Any] = {names.channels: channels} if share else {}
    for each, (attention, feed) in enumerate(_layers(network, tensors, keep, given, core)):
        if attention is not None:
            before = [name.format(each) for name in (names.query, names.key, names.value)]
            _put(weights, tensors, before, names.attended.format(each), attention)
            kept = set((attention.kept[::wide] // wide).tolist())
            changes.setdefault("pruned_heads", {})[str(each)] = [one for one in range(whole) if one not in kept]
        if feed is not None:
            _put(weights, tensors, [names.inner.format(each)], names.outer.format(each), feed)
    made = written(network, folder, lambda out: save_file(weights, out, {"format": "pt"}), changes)
    parameters = sum(int(each.size) for each in weights.values())
    return replace(made, backbone=replace(made.backbone, parameters=parameters))


def _put(weights: dict[str, np.ndarray], tensors: Tensors, before: Sequence[str], behind: str, found: Pruned) -> None:
    """Leave channels out of the layers that give them, and put the layer behind them in place of its old self."""
    for name in before:
        for part in PARTS:
            own = tensors.names[f"{name}.{part}"]
            weights[own] = weights[own][found.kept]
    for part, values in zip(PARTS, (found.weight, found.bias), strict=True):
        own = tensors.names[f"{behind}.{part}"]
        weights[own] = values.astype(weights[own].dtype)


def _layers(
    network: Network, tensors: Tensors, keep: tuple[int, int], given: Sequence[Arrays], core: ov.Core
) -> list[tuple[Pruned | None, Pruned | None]]:
    """Return each layer's attention with fewer heads, and its outer feed-forward part with fewer channels.

    Args:
        keep: how many heads and how many channels stay; 0 for all of them.
    """
    names, made = FAMILY[network.architecture], list[tuple[Pruned | None, Pruned | None]]()
    wide, (left, channels) = head_width(network, tensors), keep
    packed = _packed(given, TOKENS * len(tensors[f"{names.inner.format(0)}.bias"]))
    embedded = _embedded(network, tensors, core)
    whole = [embedded(each) for each in packed]
    mine = list(whole)
    for each in range(int(network.config[names.layers])):
        see, feed = _heads(network, tensors, each, core), _inner(network, tensors, each, core)
        weight, bias = (tensors[f"{names.attended.format(each)}.{part}"] for part in PARTS)
        seen = [see(x, batch.segment) for x, batch in zip(whole, packed, strict=True)]
        aims = [x + own @ weight.T + bias for x, own in zip(whole, seen, strict=True)]
        if each:
            seen = [see(x, batch.segment) for x, batch in zip(mine, packed, strict=True)]
        attention, moments = None, Moments(*weight.shape[::-1])
        if left:
            for x, own, aim, batch in zip(mine, seen, aims, packed, strict=True):
                real = batch.segment >= 0
                moments.add(own[real], (aim - x)[real])
            attention = pruned(moments, weight, left, wide)
            seen, weight, bias = [own[..., attention.kept] for own in seen], attention.weight, attention.bias
        mine = [x + own @ weight.T + bias for x, own in zip(mine, seen, strict=True)]

        weight, bias = (tensors[f"{names.outer.format(each)}.{part}"] for part in PARTS)
        outer, moments, inside = None, Moments(*weight.shape[::-1]), []
        for place, batch in enumerate(packed):
            attended, inner = feed(aims[place])
            wanted = attended + inner @ weight.T + bias
            whole[place] = _norm(network, tensors, each, wanted)
            attended, inner = feed(mine[place])
            if channels:
                real = batch.segment >= 0
                moments.add(inner[real], (wanted - attended)[real])
            inside.append((attended, inner))
        if channels:
            outer = pruned(moments, weight, channels)
            inside = [(attended, inner[..., outer.kept]) for attended, inner in inside]
            weight, bias = outer.weight, outer.bias
        mine = [_norm(network, tensors, each, attended + inner @ weight.T + bias) for attended, inner in inside]
        made.append((attention, outer))
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


def _heads(network: Network, tensors: Tensors, each: int, core: ov.Core) -> Any:
    """Return what turns a layer's input and its segments into what its heads see."""
    width = tensors.shape(f"{FAMILY[network.architecture].attended.format(each)}.weight")[0]
    x, segment = op.parameter([-1, -1, width], np.float32, "x"), op.parameter([-1, -1], np.int32, "segment")
    found = heads_of(network, tensors, each, x, block_diagonal(segment))
    request = _compiled(ov.Model([op.result(found)], [x, segment], "heads"), core)
    return lambda x, segment: np.array(request.infer([x, segment])[0])


def _inner(network: Network, tensors: Tensors, each: int, core: ov.Core) -> Any:
    """Return what turns what attention gives, its input added, into what `inner` of the graph says."""
    width = tensors.shape(f"{FAMILY[network.architecture].attended.format(each)}.weight")[0]
    x = op.parameter([-1, -1, width], np.float32, "x")
    found = inner_of(network, tensors, each, x)
    request = _compiled(ov.Model([op.result(part) for part in found], [x], "inner"), core)

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = request.infer([x])
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
