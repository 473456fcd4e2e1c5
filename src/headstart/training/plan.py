"""How a network is trained: the numbers of a course."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from headstart.core.errors import UsageError, listed, nearest


@dataclass(frozen=True)
class Plan:
    """The settings of one course.

    Args:
        epochs: passes over the rows.
        batch: rows of one step of the optimizer.
        rate: learning rate of the highest block.
        head_rate: learning rate of what stands behind the network.
        decay: factor of the learning rate from each block to the one below.
        weight_decay: AdamW's (Loshchilov and Hutter 2019, arXiv:1711.05101).
        warmup: share of the steps in which the rates rise from 0.
        schedule: `cosine`, `linear`, or `one_cycle` (a rise over 30 % of the steps, then a cosine).
        frozen: blocks from the input on that stay as they are, the stem with them; -1 freezes all of them.
        gradual: unfreeze one block more with each epoch, from the top (Howard and Ruder 2018, arXiv:1801.06146).
        average: decay of the exponential moving average of the weights; 0 keeps none.
        patience: epochs without a gain on the held rows after which it stops.
        accumulate: parts of a batch that go through the network one after the other.
        clip: largest norm of the gradient.
        checkpointing: work activations out again in the backward pass, to save memory.
        balance: how far rare classes count for more: the loss of a row is weighed by its class' rows to the power of
            -balance; 0 weighs all rows alike, 1 all classes.
        varied: how pictures are varied in each epoch: `mirror` (cut out of a larger frame, and mirrored by chance),
            `turn` (turned by quarters, too: for surfaces, cells, and whatever has no up), or `none`.
        precision: `auto` (bf16 where the processor computes in it), `f32` or `bf16`.
    """

    epochs: int = 5
    batch: int = 32
    rate: float = 2e-4
    head_rate: float = 1e-3
    decay: float = 0.9
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "cosine"
    frozen: int = 0
    gradual: bool = False
    average: float = 0.0
    patience: int = 2
    accumulate: int = 1
    clip: float = 1.0
    checkpointing: bool = False
    balance: float = 0.0
    varied: str = "mirror"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "linear", "one_cycle"):
            raise UsageError(
                f"There is no schedule '{self.schedule}'.", allowed="Schedules: 'cosine', 'linear', 'one_cycle'."
            )
        if self.precision not in ("auto", "f32", "bf16"):
            raise UsageError(f"There is no precision '{self.precision}'.", allowed="Precisions: 'auto', 'f32', 'bf16'.")
        for name in ("epochs", "batch", "accumulate", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}.", allowed="It must be at least 1.")
        for name, most in (("warmup", 1.0), ("average", 0.99999), ("decay", 1.0), ("balance", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise UsageError(f"{name} is {getattr(self, name)}.", allowed=f"It must lie between 0 and {most:g}.")

    def share(self, step: int, steps: int) -> float:
        """Return the share of its peak that a learning rate has at a step (0 … steps - 1)."""
        rise = max(1, round((0.3 if self.schedule == "one_cycle" else self.warmup) * steps))
        if step < rise:
            return (step + 1) / rise
        done = (step - rise) / max(1, steps - rise)
        return 1 - done if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))

    def given(self, options: Mapping[str, Any]) -> Plan:
        """Return the plan with some settings in place of its own.

        Raises:
            UsageError: there is no such setting, or it has another type.
        """
        known = {each.name: each for each in fields(self)}
        made = {}
        for name, value in options.items():
            if name not in known:
                raise UsageError(
                    f"There is no setting '{name}'.",
                    allowed=f"Settings: {listed(known, 30)}.",
                    hint=nearest(name, known),
                )
            made[name] = _as(name, value, type(getattr(self, name)))
        return replace(self, **made)

    def told(self) -> dict[str, Any]:
        """Return the settings as plain JSON data."""
        return asdict(self)


def _as(name: str, value: Any, kind: type) -> Any:
    if kind is bool:
        named = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
        if str(value).lower() in named:
            return named[str(value).lower()]
    else:
        try:
            number = kind(value)
            if kind is not int or float(value) == number:
                return number
        except (TypeError, ValueError):
            pass
    raise UsageError(
        f"{name} is '{value}'.", allowed=f"It must be {'a number' if kind in (int, float) else kind.__name__}."
    )
