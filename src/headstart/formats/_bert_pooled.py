"""The vectors of packed texts, added up in the graph.

Where OpenVINO computes in bfloat16, what stands behind a graph's last matrix products stays in float32, and so does all
that leads there past them: in encoders the whole way from layer to layer, with its sums and norms, which go to float32
and back in each. A product as the last operation leaves that way in bfloat16, which is half as much to read and write.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from headstart.core.backbone import Network
from headstart.formats import _packing
from headstart.formats._openvino import op, ov

MODES = ("mean", "cls")
"""Poolings that are products."""
CHOSEN = "chosen"
"""The input that says which tokens each text's vector is the sum of, (rows, k, tokens)."""


def pooled(graph: ov.Model, network: Network) -> ov.Model:
    """Return a graph that gives the sums of each text's vectors, (rows, k, width), in place of all of them.

    Args:
        graph: vectors (rows, tokens, width) out.
        network: how its tokens' vectors become one; a graph of another pooling is returned as it is.
    """
    if network.pooling.get("mode") not in MODES:
        return graph
    # Worked out in the graph it would be of whole numbers, and the product in float32.
    chosen = op.parameter([-1, -1, -1], np.float32, CHOSEN)
    chosen.output(0).get_tensor().set_names({CHOSEN})
    sums = op.matmul(chosen, graph.get_results()[0].input_value(0), False, False)
    return ov.Model([op.result(sums, name="sums")], [*graph.get_parameters(), chosen], graph.get_friendly_name())


def is_pooled(compiled: ov.CompiledModel) -> bool:
    """Return whether it is a compiled graph of `pooled`."""
    return any(CHOSEN in each.get_names() for each in compiled.inputs)


def chosen(packed: _packing.Packed, network: Network) -> np.ndarray:
    """Return what the graph reads beside a batch, (rows, k, tokens) float32."""
    (rows, width), (row, order) = packed.ids.shape, _rows(packed)
    place = _places(row)
    made = np.zeros((rows, int(place.max(initial=0)) + 1, width), np.float32)
    first = packed.starts[order] - row * width
    if network.pooling["mode"] == "cls":
        made[row, place, first] = 1
        return made
    count = packed.lengths[order]
    token = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - first, count)
    made[np.repeat(row, count), np.repeat(place, count), token] = 1
    return made


def vectors(count: int, network: Network, made: Iterable[tuple[_packing.Packed, np.ndarray]]) -> np.ndarray:
    """Return the vectors of texts (count, width), of unit length where the network asks for it.

    Args:
        count: of the texts.
        network: says how its tokens' vectors become one.
        made: the batches of all texts, each with the sums that the graph gives (rows, k, width).
    """
    embedding = np.zeros((count, network.backbone.width), np.float32)
    for packed, sums in made:
        row, order = _rows(packed)
        found = sums[row, _places(row)]
        if network.pooling["mode"] == "mean":
            found = found / packed.lengths[order, None]
        embedding[packed.texts[order]] = found
    return _packing.unit(embedding) if network.pooling["normalize"] else embedding


def _rows(packed: _packing.Packed) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a batch's texts, as they stand in it, and which text each is."""
    order = np.argsort(packed.starts, kind="stable")
    return packed.starts[order] // packed.ids.shape[1], order


def _places(row: np.ndarray) -> np.ndarray:
    """Return the how manieth of its row each is; rows do not fall."""
    return np.arange(len(row)) - np.searchsorted(row, row)
