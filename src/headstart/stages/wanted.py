"""Which smaller forms of a fitted model are tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from headstart import formats
from headstart.core.errors import MissingExtra
from headstart.core.layers import layer_count
from headstart.stages import students
from headstart.stages.networks import Opened, engines_of
from headstart.stages.smaller import CALLED, Variant, Workshop, percent, without

FORMS = ("int8", "f16")
SHARES = (2 / 3, 1 / 2)
"""Shares of a transformer's layers that are tried."""
DIMENSIONS = (128, 64)
"""Dimensions that vectors are brought to."""
PRUNED, HEADS = (0.5,), (0.25,)
"""Shares of the feed-forward channels that are left out, and of the attention heads beside them."""
DISTILLING = 600.0
"""Seconds that a distilled form may take where nothing else is said."""


@dataclass(frozen=True)
class Wanted:
    """Which smaller forms are to be tried: those that are named, or the usual ones where none is.

    Args:
        precisions: `int8`, `f16`, or engines with precisions.
        layers: how many layers stay.
        dimensions: how many dimensions of the vectors stay.
        prune: shares of the feed-forward channels that are left out.
        heads: shares of the attention heads that are left out, of each of these.
        distill: how many layers a student has.
        budget: seconds that training may take for each form that is trained; 0 trains none but students.
        zero: shares of the weights that are set to zero one by one.
    """

    precisions: Sequence[str] = ()
    layers: Sequence[int] = ()
    dimensions: Sequence[int] = ()
    prune: Sequence[float] = ()
    heads: Sequence[float] = ()
    distill: Sequence[int] = ()
    budget: float = 0.0
    zero: Sequence[float] = ()

    def resolved(self, opened: Mapping[str, Opened]) -> Wanted:
        """Return it with the usual forms where it names none."""
        forms = (self.precisions, self.layers, self.dimensions, self.prune, self.heads, self.distill, self.zero)
        return self if any(forms) else _usual(opened, self.budget)

    def makers(self, workshop: Workshop) -> dict[str, Callable[[], Variant]]:
        """Return what makes each, by name."""
        found: dict[str, Callable[[], Variant]] = {}
        for name in self.precisions:
            engine, _, precision = name.rpartition(" ")
            made = _later(workshop.in_form, name) if name in FORMS else _later(workshop.at_precision, precision, engine)
            found[CALLED.get(name, name)] = made
        for number in self.layers:
            found |= self._also_in_int8(f"{number} layers", _later(workshop.with_layers, number), workshop)
        for share, attention in [(share, heads) for share in self.prune or (0.0,) for heads in (0.0, *self.heads)]:
            if not share and not attention:
                continue
            name = without(share, attention)
            made = _later(workshop.pruned, share, attention)
            found |= self._also_in_int8(name, made, workshop)
            if self.budget and not attention:
                made = _later(students.imitating, workshop, made, self.budget)
                found |= self._also_in_int8(f"{name}, trained", made, workshop)
        for number in self.distill:
            made = _later(students.distilled, workshop, number, self.budget or DISTILLING)
            found |= self._also_in_int8(f"distilled to {number} layers", made, workshop)
        found |= {f"{percent(share)} of weights zero": _later(workshop.zeroed, share) for share in self.zero}
        return found | {f"{each} dimensions": _later(workshop.with_dimensions, each) for each in self.dimensions}

    def _also_in_int8(
        self, name: str, make: Callable[[], Variant], workshop: Workshop
    ) -> dict[str, Callable[[], Variant]]:
        """Return what makes a form, and where eight bits are wanted, that form in eight bits; it is made once."""
        if FORMS[0] not in self.precisions:
            return {name: make}
        return {name: make, f"{name}, {FORMS[0]}": lambda: workshop.in_form(FORMS[0], make())}


def _later(make: Callable[..., Variant], *arguments: object) -> Callable[[], Variant]:
    return cache(lambda: make(*arguments))


def _usual(opened: Mapping[str, Opened], budget: float) -> Wanted:
    """Return what is tried unasked: all precisions but the one in use, fewer layers and channels, shorter vectors."""
    count = layer_count(opened["text"].network.config) if "text" in opened else 0
    layers = sorted({max(1, round(share * count)) for share in SHARES} - {count}, reverse=True) if count > 1 else []
    width = sum(each.network.backbone.width for each in opened.values())
    prunable = any(
        not engine.prunable(each.network)
        for each in opened.values()
        for _, engine in engines_of(each.network, each.format)
    )
    return Wanted(
        [*other_precisions(opened), *FORMS],
        layers,
        [each for each in DIMENSIONS if each < width],
        PRUNED if prunable else (),
        HEADS if prunable and "text" in opened else (),
        layers[-1:] if budget else (),
        budget,
    )


def other_precisions(opened: Mapping[str, Opened]) -> list[str]:
    """Return the engines with their precisions that run all networks, but for what they run in now."""
    found = []
    for name in formats.registry.names():
        try:
            engine = formats.registry.get(name)()
        except MissingExtra:
            continue
        # PyTorch's eager mode is for training: it is slower than the other engines at the same precision.
        if engine.heavy or any(engine.supports(each.network) for each in opened.values()):
            continue
        offered = [engine.offered(each.network) for each in opened.values()]
        for precision in offered[0] if offered else []:
            now = all((each.format, each.precision) == (name, precision) for each in opened.values())
            if not now and all(precision in each for each in offered):
                found.append(f"{name} {precision}")
    return found
