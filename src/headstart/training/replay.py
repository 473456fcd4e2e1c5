"""Frozen blocks run once: their output is kept, so that each epoch pays only for what moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch

from headstart.core.course import Examples
from headstart.training.batches import ahead
from headstart.training.blocks import blocks_of

MOST = 3_000_000_000
"""Bytes of outputs that are kept; where there are more, the blocks run in every epoch."""
CLOSE = 1e-4
"""How much an answer may differ, as a share of its largest value, for a kept output to stand in."""


class _Pass(torch.nn.Module):  # type: ignore[misc]
    """Stands in for a block whose output nobody reads."""

    def __init__(self, several: bool) -> None:
        super().__init__()
        self.several = several

    def forward(self, given: Any, *_: Any, **__: Any) -> Any:
        return (given,) if self.several else given


class _Kept(torch.nn.Module):  # type: ignore[misc]
    """Stands in for the last frozen block: gives what it once gave for these rows."""

    def __init__(self, several: bool) -> None:
        super().__init__()
        self.several, self.value = several, None

    def forward(self, *_: Any, **__: Any) -> Any:
        return (self.value,) if self.several else self.value


@final
class Replay:
    """The outputs of a network's frozen blocks, by row.

    Args:
        built: the network, as `Session.trainable` gives it; its frozen blocks are in inference mode.
        frozen: how many blocks are frozen.
    """

    def __init__(self, built: Any, frozen: int) -> None:
        self.built = built
        self.kept: dict[int, Any] = {}
        self.blocks = list(blocks_of(built.module).blocks[:frozen])
        self.places = [_place(built.module, block) for block in self.blocks]
        self.given: dict[str, tuple[tuple[int, ...], Any]] = {}
        self.several = False
        self.stand_in: _Kept | None = None

    def fill(self, examples: Examples, planned: Sequence[np.ndarray]) -> bool:
        """Run the frozen blocks on all rows and return whether their outputs can stand in for them from now on."""
        if not self.blocks or not self._agrees(examples, planned[0][:4]):
            return False
        size = 0
        for rows, arrays in ahead(examples, planned, None):
            for row, value in zip(rows.tolist(), self._outputs(arrays, rows), strict=True):
                self.kept[row] = value
                size += value.numel() * value.element_size()
            if size > MOST:
                self.kept.clear()
                return False
        self._install()
        return True

    def tensors(self, examples: Examples, rows: np.ndarray) -> dict[str, Any]:
        """Return what the network reads of some rows, with their outputs put in place."""
        values = [self.kept[row] for row in rows.tolist()]
        assert self.stand_in is not None
        alike = all(each.shape == values[0].shape for each in values)
        self.stand_in.value = (
            torch.stack(values) if alike else torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
        )
        if "pixels" in self.given:
            shape, kind = self.given["pixels"]
            return {"pixels": torch.zeros((), dtype=kind).expand(len(rows), *shape)}
        return {name: torch.from_numpy(each) for name, each in examples.batch(rows).items()}

    def remove(self) -> None:
        """Put the frozen blocks back."""
        for (parent, name), block in zip(self.places, self.blocks, strict=True):
            setattr(parent, name, block)
        self.stand_in = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Let the frozen blocks run within the `with` block, for rows whose outputs are not kept."""
        mine = self.stand_in
        self.remove()
        try:
            yield
        finally:
            if mine is not None:
                self._install(mine)

    def _install(self, stand_in: _Kept | None = None) -> None:
        self.stand_in = stand_in or _Kept(self.several)
        for parent, name in self.places[:-1]:
            setattr(parent, name, _Pass(self.several))
        parent, name = self.places[-1]
        setattr(parent, name, self.stand_in)

    def _agrees(self, examples: Examples, rows: np.ndarray) -> bool:
        """Return whether kept outputs give the answers that the whole network gives, on a few rows."""
        module = self.built.module
        training = {each: each.training for each in module.modules()}
        module.eval()
        try:
            with torch.no_grad():
                arrays = examples.batch(rows)
                whole = self.built.run({name: torch.from_numpy(each) for name, each in arrays.items()})["embedding"]
                self.given = {name: (each.shape[1:], torch.from_numpy(each).dtype) for name, each in arrays.items()}
                for row, value in zip(rows.tolist(), self._outputs(arrays, rows), strict=True):
                    self.kept[row] = value
                self._install()
                again = self.built.run(self.tensors(examples, rows))["embedding"]
            return bool((whole - again).abs().max() <= CLOSE * whole.abs().max())
        except (RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError):
            return False
        finally:
            self.remove()
            self.kept.clear()
            for each, was in training.items():
                each.training = was

    def _outputs(self, arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> list[Any]:
        seen: list[Any] = []

        def see(_layer: Any, _given: Any, out: Any) -> None:
            self.several = isinstance(out, tuple)
            seen.append((out[0] if self.several else out).detach())

        hook = self.blocks[-1].register_forward_hook(see)
        try:
            with torch.no_grad():
                self.built.run({name: torch.from_numpy(each) for name, each in arrays.items()})
        finally:
            hook.remove()
        values = [value for out in seen for value in out]
        if len(values) != len(rows):
            raise ValueError(f"{len(values)} outputs of {len(rows)} rows")
        if "ids" in arrays:
            values = [value[:length] for value, length in zip(values, arrays["lengths"].tolist(), strict=True)]
        return [value.clone() for value in values]


def _place(module: Any, block: Any) -> tuple[Any, str]:
    """Return the part of a network that holds a block, and the name under which it does."""
    for part in module.modules():
        for name, child in part.named_children():
            if child is block:
                return part, name
    raise ValueError("The block is not part of the network.")
