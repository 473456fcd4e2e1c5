"""The blocks of a network from its input to its output: what is frozen, and how fast each learns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

MOST = 0.6
"""A part that holds more than this share of a network's layers is looked into."""
NORMS = (torch.nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Blocks:
    """A network's blocks in the order in which its input passes them.

    Args:
        stem: the parameters before them, such as token embeddings.
        blocks: the blocks themselves.
        top: the parameters behind them.
    """

    stem: Sequence[Any]
    blocks: Sequence[Any]
    top: Sequence[Any]

    def frozen(self, count: int) -> list[Any]:
        """Return the parameters of the stem and of the first `count` blocks; none where `count` is 0."""
        if count <= 0:
            return []
        return [*self.stem, *(each for block in self.blocks[:count] for each in block.parameters())]


def blocks_of(module: Any) -> Blocks:
    """Return a network's blocks: the layers of a transformer, the stages or layers of a convolutional network.

    The part that most of its layers are in is looked into, again and again, until they are spread over several parts.
    """
    part, total = module, _layers(module)
    while True:
        inner = [child for child in part.children() if _layers(child)]
        largest = max(inner, key=_layers, default=None)
        if largest is None or _layers(largest) <= MOST * total:
            break
        part, total = largest, _layers(largest)
    blocks = [child for child in part.children() if _layers(child)]
    if len(blocks) < 2:
        blocks = [part]
    inside = {id(each) for block in blocks for each in block.parameters()}
    stem: list[Any] = []
    top: list[Any] = []
    passed = False
    for each in module.parameters():
        if id(each) in inside:
            passed = True
        else:
            (top if passed else stem).append(each)
    return Blocks(stem, blocks, top)


def _layers(module: Any) -> int:
    """Return how many layers with weights of their own a part holds."""
    return sum(1 for each in module.modules() if next(each.parameters(recurse=False), None) is not None)


def groups(
    module: Any,
    head: Any,
    *,
    frozen: int,
    rate: float,
    head_rate: float,
    decay: float,
    weight_decay: float,
    still: Iterable[Any] = (),
) -> list[dict[str, Any]]:
    """Return an optimizer's groups of parameters: lower blocks learn more slowly, and frozen ones not at all.

    Args:
        module: the network.
        head: what stands behind it.
        frozen: how many blocks from the input on stay as they are, the stem with them.
        rate: the highest block's learning rate; each block below has `decay` times that of the one above it
            (layer-wise learning-rate decay: Howard and Ruder 2018, arXiv:1801.06146).
        head_rate: the head's.
        weight_decay: of matrices; biases and norms have none.
        still: parameters of the network that stay as they are, wherever they stand.
    """
    found = blocks_of(module)
    fixed = {id(each) for each in [*found.frozen(frozen), *still]}
    for each in module.parameters():
        each.requires_grad_(id(each) not in fixed)
    parts: list[tuple[float, Iterator[Any]]] = [(head_rate, head.parameters()), (rate, iter(found.top))]
    for depth, block in enumerate(reversed(list(found.blocks))):
        parts.append((rate * decay**depth, block.parameters()))
    parts.append((rate * decay ** len(found.blocks), iter(found.stem)))
    made: list[dict[str, Any]] = []
    for own, parameters in parts:
        moving = [each for each in parameters if each.requires_grad]
        for wide in (True, False):
            some = [each for each in moving if (each.ndim > 1) == wide]
            if some:
                made.append({"params": some, "lr": own, "peak": own, "weight_decay": weight_decay if wide else 0.0})
    return made


def to_training(module: Any, still: Sequence[Any] = (), fresh: bool = False) -> None:
    """Put a network into training mode, but its batch norms and frozen parts into inference mode.

    Few rows give poor statistics, and frozen parts must give what their kept output was.

    Args:
        still: the parameters that are frozen.
        fresh: the network began with random weights: its batch norms have no statistics yet, and learn them.
    """
    module.train()
    for each in module.modules():
        if isinstance(each, NORMS) and not fresh:
            each.eval()
    if still:
        inside = {id(each) for each in still}
        for each in module.modules():
            own = list(each.parameters())
            if own and all(id(one) in inside for one in own):
                each.eval()
