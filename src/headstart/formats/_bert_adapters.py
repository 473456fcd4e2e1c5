"""The BERT family with several low-rank adapters at once: one copy of the weights, an adapter for each row of tokens.

Beside each linear layer x W + b stands x A B, with A and B picked for each row from the stacks of all adapters. These
are inputs of the graph: an adapter comes and goes without compiling anything. Sources: Hu and others 2021
(arXiv:2106.09685); rows of several adapters in one pass: Chen and others 2023, Punica (arXiv:2310.18547).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart.core.adapter import find, halves
from headstart.core.arrays import Adaptable, Arrays
from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.formats import _bert_graph, _packing
from headstart.formats._openvino import op, ov


def build(network: Network) -> ov.Model:
    """Return the graph; behind the inputs of the plain one come `which` (rows,), and A (n, in, r) and B (n, r, out).

    A and B stand there for each layer, in the order of `_bert_graph.linears`.
    """
    which, axis = op.parameter([-1], np.int32), op.constant(np.int64(0))
    stacks = {
        name: (op.parameter([-1, wide, -1], np.float32), op.parameter([-1, -1, out], np.float32))
        for name, (wide, out) in _bert_graph.linears(network).items()
    }

    def change(name: str, x: ov.Node, given: ov.Node) -> ov.Node:
        down, up = (op.gather(each, which, axis) for each in stacks[name])
        return op.add(given, op.matmul(op.matmul(x, down, False, False), up, False, False))

    return _bert_graph.build(network, change, [which, *(each for pair in stacks.values() for each in pair)])


@final
class AdaptedText(Adaptable):
    """A compiled text encoder with adapters: `ids`, `lengths` and `variant` in, `embedding` (n, width) out.

    Args:
        compiled: the graph of `build`.
        network: what it was built of.
        room: capacity of a row in tokens, rows of a batch, and what a batch's width is a multiple of.
    """

    def __init__(self, compiled: ov.CompiledModel, network: Network, room: tuple[int, int, int]) -> None:
        self._request, self._network, self._room = compiled.create_infer_request(), network, room
        self._layers = _bert_graph.linears(network)
        self._own: dict[int, Mapping[str, tuple[np.ndarray, np.ndarray]]] = {}
        self._stacks: list[np.ndarray] = []
        self._bound: Any = None
        self._gone: deque[int] = deque()
        self._changing = threading.Lock()

    def add(self, adapter: Path) -> int:
        """Take an adapter in; passes that run meanwhile go on with the stacks that they have.

        Raises:
            HubError: it is no adapter, or changes something else than the linear layers of the encoder's blocks.
        """
        found = self._read(adapter)
        with self._changing:
            while self._gone:
                self._own.pop(self._gone.popleft(), None)
            variant = next(number for number in range(len(self._own) + 1) if number not in self._own)
            self._own[variant] = found
            self._stacks = self._stacked()
        return variant

    def drop(self, variant: int) -> None:
        """Forget an adapter; its place in the stacks goes to the next one that comes.

        It may be called while rubbish is collected, in the middle of `add`, so it takes no lock.
        """
        self._gone.append(variant)

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return `embedding` (n, width) float32, of unit length where the network asks for it."""
        kinds = arrays["variant"]
        self._bind()

        def hidden(packed: _packing.Packed) -> np.ndarray:
            which = np.zeros(len(packed.ids), np.int32)
            which[packed.starts // packed.ids.shape[1]] = kinds[packed.texts]
            given = {0: packed.ids, 1: packed.position, 2: packed.segment, 3: which}
            return self._request.infer(given, share_inputs=True, share_outputs=True)[0]

        batches = _packing.batches(arrays["ids"], arrays["lengths"], *self._room, kinds)
        made = ((each, hidden(each)) for each in batches)
        return {"embedding": _packing.vectors(len(kinds), self._network, made)}

    def _bind(self) -> None:
        stacks = self._stacks
        if self._bound is not stacks:
            for number, each in enumerate(stacks):
                self._request.set_input_tensor(number + 4, ov.Tensor(each, shared_memory=True))
            self._bound = stacks

    def _read(self, adapter: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return A (in, r) and B (r, out) of each layer that an adapter changes."""
        found, scale, flipped = halves(adapter)
        known = {}
        for name, (down, up) in found.items():
            layer = find(name, self._layers)
            shape = (down.shape[-1], up.shape[0])
            if flipped or not layer or (down.ndim, up.ndim) != (2, 2) or self._layers[layer] != shape:
                raise HubError(f"The adapter in '{adapter}' changes '{name}', which has to be merged.")
            known[layer] = np.ascontiguousarray(down.T, np.float32), (scale * up.T).astype(np.float32)
        return known

    def _stacked(self) -> list[np.ndarray]:
        """Return A and B of all adapters for each layer, those of a smaller rank filled up with zeros."""
        count = max(self._own) + 1
        rank = max((down.shape[1] for own in self._own.values() for down, _ in own.values()), default=1)
        stacks = []
        for layer, (wide, out) in self._layers.items():
            downs, ups = np.zeros((count, wide, rank), np.float32), np.zeros((count, rank, out), np.float32)
            for variant, own in self._own.items():
                if layer in own:
                    down, up = own[layer]
                    downs[variant, :, : down.shape[1]], ups[variant, : up.shape[0]] = down, up
            stacks += [downs, ups]
        return stacks
