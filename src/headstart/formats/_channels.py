"""Networks of convolutions with fewer channels, as an OpenVINO graph; chosen and made up for on a user's own pictures.

What is pruned are the channels between two convolutions: those that the first one gives, that go through operations
which treat each channel by itself (norms, activations, pooling, depthwise convolutions), and that nothing but the
second one reads. So the network's vectors keep their width. The second convolution is fitted by least squares to give,
on what the pruned layers before it give, what it gave in the whole network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.backbone import Network
from headstart.core.errors import UsageError
from headstart.core.pruning import Moments, pruned
from headstart.formats import _compress
from headstart.formats._openvino import op, ov

PLACES = 160
"""Places of each picture's map that a convolution is fitted on."""
BATCH = 8
"""Pictures that go through at once."""
EVEN = 8
"""What the number of channels that stay is a multiple of."""
LEAST = 2 * EVEN
"""Channels of which some are left out at the least."""
BY_THEMSELVES = ("AvgPool", "Clamp", "Elu", "Gelu", "HSigmoid", "HSwish", "MaxPool", "Mish", "Relu", "Sigmoid", "Swish")
"""Operations that treat each channel by itself."""
WITH_NUMBERS = ("Add", "Multiply", "Subtract")
"""The same, with a number for each channel."""


@dataclass(frozen=True)
class Chain:
    """Channels that stand between two convolutions and nowhere else.

    Args:
        first, second: the convolutions.
        between: what has numbers for each channel, as the operation and the place of these among its inputs.
        channels: how many.
    """

    first: ov.Node
    second: ov.Node
    between: Sequence[tuple[ov.Node, int]]
    channels: int


def chains(graph: ov.Model) -> list[Chain]:
    """Return what can be pruned of a graph, in the order in which it runs."""
    every = (_chain(each) for each in graph.get_ordered_ops() if each.get_type_name() == "Convolution")
    return [each for each in every if each is not None]


def _chain(first: ov.Node) -> Chain | None:
    weights = _numbers(first, 1)
    if weights is None or weights.ndim != 4:
        return None
    channels, node, between = len(weights), first, list[tuple[ov.Node, int]]()
    while True:
        readers = list(node.output(0).get_target_inputs())
        if len(readers) != 1:
            return None
        read, node = readers[0].get_index(), readers[0].get_node()
        kind = node.get_type_name()
        if kind == "Convolution" and not read:
            whole = _numbers(node, 1)
            return Chain(first, node, between, channels) if whole is not None and whole.ndim == 4 else None
        if kind == "GroupConvolution" and not read:
            own = _numbers(node, 1)
            if own is None or own.shape[:3] != (channels, 1, 1):
                return None
            between.append((node, 1))
        elif kind in WITH_NUMBERS:
            own = _numbers(node, 1 - read)
            if own is None or own.ndim > 4 or (own.size != 1 and own.shape[-3:] != (channels, 1, 1)):
                return None
            if own.size > 1:
                between.append((node, 1 - read))
        elif kind not in BY_THEMSELVES or any(each.get_target_inputs() for each in node.outputs()[1:]) or read:
            return None


def _numbers(node: ov.Node, place: int) -> np.ndarray | None:
    """Return what stands at an input where that is a constant, else None."""
    given = node.input_value(place).get_node()
    return np.array(given.get_data()) if given.get_type_name() == "Constant" else None


def prune(network: Network, graph: ov.Model, share: float, given: Sequence[Arrays], core: Any, folder: Path) -> Network:
    """Write a graph without a share of the channels between its convolutions, and return the network as it is there.

    Args:
        network: one that reads pictures.
        graph: its graph, which is changed.
        share: of the channels that are left out.
        given: encoded pictures, in batches.

    Raises:
        UsageError: there are no such channels, not so many, or no pictures.
    """
    whole, count = graph.clone(), len(chains(graph))
    pictures = [arrays["pixels"] for arrays in given if len(arrays.get("pixels", ()))]
    if not count:
        raise UsageError("No two convolutions of this network stand behind each other with nothing beside them.")
    if not pictures:
        raise UsageError("There are no pictures by which channels could be chosen.")
    gone = 0
    for number in range(count):
        chain = chains(graph)[number]
        keep = EVEN * round(chain.channels * (1 - share) / EVEN)
        if chain.channels >= LEAST and 0 < keep < chain.channels:
            _without(chain, graph, chains(whole)[number], whole, keep, pictures, core)
            gone += 1
    if not gone:
        raise UsageError(
            f"{share:.0%} of the channels cannot be left out.",
            allowed=f"Shares that leave a multiple of {EVEN} channels, and some that go, such as 0.25.",
        )
    return _compress.write(network, graph, _compress.PRUNED, folder)


def _without(
    chain: Chain, graph: ov.Model, old: Chain, whole: ov.Model, keep: int, pictures: Sequence[np.ndarray], core: Any
) -> None:
    """Leave channels out of a chain, and fit its second convolution to do without them."""
    weights = _numbers(chain.second, 1)
    assert weights is not None
    high, wide = weights.shape[2:]
    moments = Moments(weights[0].size, len(weights))
    mine, theirs = _before(graph, chain.second, core, 0), _before(whole, old.second, core, None)
    rng = np.random.default_rng(0)
    for some in _batches(pictures):
        reads, gives = mine(some), theirs(some)
        places = rng.integers(0, gives.shape[2] * gives.shape[3], (len(some), PLACES))
        rows, columns = np.divmod(places, gives.shape[3])
        picture = np.arange(len(some))[:, None]
        wanted = gives[picture, :, rows, columns]
        patches = _patches(reads, chain.second, (high, wide), picture, rows, columns)
        moments.add(patches.reshape(-1, patches.shape[-1]), wanted.reshape(-1, wanted.shape[-1]))
    found = pruned(moments, weights.reshape(len(weights), -1), keep, high * wide)
    kept = found.kept[:: high * wide] // (high * wide)
    _put(chain.first, 1, _numbers(chain.first, 1)[kept])  # type: ignore[index]
    for node, place in chain.between:
        numbers = _numbers(node, place)
        assert numbers is not None
        axis = 0 if node.get_type_name() == "GroupConvolution" else numbers.ndim - 3
        _put(node, place, np.take(numbers, kept, axis))
    _put(chain.second, 1, found.weight.reshape(len(weights), keep, high, wide))
    _shift(chain.second, found.bias)
    graph.validate_nodes_and_infer_types()


def _batches(pictures: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for each in pictures:
        for start in range(0, len(each), BATCH):
            yield np.ascontiguousarray(each[start : start + BATCH], np.float32)


def _before(graph: ov.Model, node: ov.Node, core: Any, place: int | None) -> Any:
    """Return what gives an input of an operation for pictures, or what it gives itself where no place is named."""
    copy = graph.clone()
    same = next(each for each in copy.get_ordered_ops() if each.get_friendly_name() == node.get_friendly_name())
    last = same.output(0) if place is None else same.input_value(place)
    part = ov.Model([op.result(last)], copy.get_parameters(), "part")
    request = core.compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    return lambda pixels: np.array(request.infer([pixels])[0])


def _patches(
    reads: np.ndarray, node: ov.Node, size: tuple[int, int], picture: Any, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Return what a convolution reads for some of its places (n, places, channels x height x width)."""
    told = node.get_attributes()
    strides, apart = ([int(each) for each in told[name]] for name in ("strides", "dilations"))
    first, last = ([int(each) for each in told[name]] for name in ("pads_begin", "pads_end"))
    padded = np.pad(reads, ((0, 0), (0, 0), (first[0], last[0]), (first[1], last[1])))
    down = np.arange(size[0]) * apart[0] + rows[..., None] * strides[0]
    right = np.arange(size[1]) * apart[1] + columns[..., None] * strides[1]
    found = padded[picture[..., None, None], :, down[..., :, None], right[..., None, :]]
    return np.moveaxis(found, -1, 2).reshape(*rows.shape, -1)


def _put(node: ov.Node, place: int, values: np.ndarray) -> None:
    node.input(place).replace_source_output(op.constant(np.ascontiguousarray(values, np.float32)).output(0))


def _shift(node: ov.Node, bias: np.ndarray) -> None:
    """Add numbers to what a convolution gives."""
    readers = list(node.output(0).get_target_inputs())
    added = op.add(node, op.constant(bias.reshape(1, -1, 1, 1).astype(np.float32)))
    for each in readers:
        each.replace_source_output(added.output(0))
