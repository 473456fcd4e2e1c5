"""Smaller forms of a fitted model: in other precisions, with fewer layers or channels, or with shorter vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headstart import formats, methods, modalities
from headstart.core.arrays import Arrays, take
from headstart.core.dataset import take_rows
from headstart.core.errors import DataError, UsageError
from headstart.core.head import Head
from headstart.core.layers import layer_count, shortened, spread
from headstart.core.method import Budget, Job
from headstart.core.modality import Modality
from headstart.core.progress import Quiet
from headstart.core.recipe import Recipe
from headstart.core.threads import core_count
from headstart.core.zeros import zeroed, zipped
from headstart.heads.constant import Constant
from headstart.heads.projected import Projected, components
from headstart.runtime import Runtime, Target
from headstart.stages.ground import Ground, Rows
from headstart.stages.networks import Opened, engines_of, start

CALIBRATION, PICTURES = 300, 100
"""Training rows by which the ranges of eight-bit numbers are chosen: texts, and files."""
TEXTS = 2_000
"""Training rows at most by which channels are chosen."""
BATCH = 50
CALLED = {"f16": "f16 weights"}
"""What forms are called, where their own name may mislead: the arithmetic stays as it is."""


@dataclass(frozen=True)
class Variant:
    """A smaller form of a fitted model.

    Args:
        name: what it is called.
        opened: its networks.
        inputs: its modalities, bound to them.
        targets: its tasks and heads.
        refit: makes the targets that answer by its own vectors; None where the old ones do.
        told: why it is measured and never kept; empty where it may be.
    """

    name: str
    opened: Mapping[str, Opened]
    inputs: Sequence[Modality]
    targets: Mapping[str, Target]
    refit: Callable[[], Mapping[str, Target]] | None = None
    told: str = ""

    def runtime(self) -> Runtime:
        """Return it opened."""
        sessions = {name: each.session for name, each in self.opened.items()}
        return Runtime(None, self.inputs, sessions, self.targets)

    def refitted(self) -> Variant:
        """Return it with its own heads."""
        return replace(self, targets=self.refit(), refit=None) if self.refit else self


@dataclass(frozen=True)
class Workshop:
    """What smaller forms are made of.

    Args:
        whole: the model as it is.
        ground: its rows.
        recipe: how it was fitted.
        folder: where networks are written.
        home: the model's bundle.
    """

    whole: Variant
    ground: Ground
    recipe: Recipe
    folder: Path
    home: Path

    def at_precision(self, precision: str, engine: str = "") -> Variant:
        """Return the model computed in another precision, or by another engine."""
        made = {}
        for name, each in self.whole.opened.items():
            chosen = engine or each.format
            offered = formats.registry.get(chosen)().offered(each.network)
            reason = formats.registry.get(chosen)().supports(each.network)
            if reason or precision not in offered:
                raise UsageError(
                    f"{chosen} does not run '{each.network.backbone.reference}' at {precision} here"
                    + (f": {reason}." if reason else "."),
                    allowed=f"Precisions: {', '.join(offered)}.",
                )
            made[name] = self.as_before(each, start(each.network, chosen, precision=precision))
        return self.with_networks(f"{engine} {precision}".strip(), made)

    def in_form(self, form: str, of: Variant | None = None) -> Variant:
        """Return the model with its networks in a compressed form.

        Raises:
            MissingExtra: a package that makes it is not installed.
            UsageError: no engine makes it of these networks, or there are no training rows.
        """
        base = of or self.whole
        made = {}
        for name, each in base.opened.items():
            maker = next(
                (engine for engine, made_by in engines_of(each.network, each.format) if form in made_by.forms),
                each.format,
            )
            given = self._calibration(name, each) if form == "int8" else []
            folder = self.folder / base.name.replace(" ", "_") / form / name
            network = formats.registry.get(maker)().compress(each.network, form, given, folder)
            tuned = f"{each.tuned}, {form}".removeprefix(", ")
            made[name] = self.as_before(each, start(network, maker), tuned=tuned)
        called = CALLED.get(form, form)
        found = replace(self.with_networks(f"{base.name}, {called}" if of else called, made), targets=base.targets)
        return replace(found, refit=lambda: self.heads_for(found)) if base.refit else found

    def with_layers(self, wanted: int) -> Variant:
        """Return the model with fewer layers of its text encoder, and heads fitted to what it gives then.

        Raises:
            UsageError: it has no such number of layers, or there are no training rows.
        """
        made, count = {}, 0
        for name, each in self.whole.opened.items():
            count = layer_count(each.network.config)
            if name != "text" or not count:
                made[name] = each
                continue
            if not 0 < wanted < count:
                raise UsageError(f"--layers is {wanted}.", allowed=f"1 to {count - 1}: the encoder has {count}.")
            network = shortened(each.network, spread(count, wanted), self.folder / f"layers{wanted}" / name)
            tuned = f"{each.tuned}, {wanted} of {count} layers".removeprefix(", ")
            made[name] = self.as_before(each, start(network, each.format, precision=each.precision), tuned=tuned)
        if all(made[name] is each for name, each in self.whole.opened.items()):
            raise UsageError("No network of this model has layers that can be left out.", allowed="Text encoders.")
        found = self.with_networks(f"{wanted} layers", made)
        return replace(found, refit=lambda: self.heads_for(found))

    def pruned(self, share: float, attention: float = 0.0) -> Variant:
        """Return the model without a share of its text encoder's channels, and heads fitted to what it gives then.

        Args:
            share: of the feed-forward channels that are left out; 0 leaves all.
            attention: share of the attention heads that are left out; 0 leaves all.

        Raises:
            UsageError: it has none that can be left out, or not so many, or there are no training rows.
        """
        told = without(share, attention)
        made = {}
        for name, each in self.whole.opened.items():
            able = (engine for _, engine in engines_of(each.network, each.format))
            maker = next((engine for engine in able if not engine.prunable(each.network)), None)
            if maker is None:
                made[name] = each
                continue
            folder = self.folder / f"pruned{share:g}-{attention:g}" / name
            network = maker.prune(each.network, share, self._calibration(name, each, TEXTS), folder, attention)
            tuned = f"{each.tuned}, {told}".removeprefix(", ")
            made[name] = self.as_before(each, start(network, each.format, precision=each.precision), tuned=tuned)
        if all(made[name] is each for name, each in self.whole.opened.items()):
            raise UsageError(
                "No network of this model has parts that can be left out. Text encoders of the BERT family in one "
                "safetensors file have, and networks of convolutions."
            )
        found = self.with_networks(told, made)
        return replace(found, refit=lambda: self.heads_for(found))

    def zeroed(self, share: float) -> Variant:
        """Return the model with a share of its networks' weights set to zero one by one, and heads fitted to that.

        Raises:
            UsageError: its networks are laid out otherwise, or there are no training rows.
        """
        made, before, after = {}, 0, 0
        for name, each in self.whole.opened.items():
            network = zeroed(each.network, share, self.folder / f"zero{share:g}" / name)
            tuned = f"{each.tuned}, {percent(share)} of weights zero".removeprefix(", ")
            made[name] = self.as_before(each, start(network, each.format, precision=each.precision), tuned=tuned)
            before, after = before + zipped(each.network.weights), after + zipped(network.weights)
        told = (
            f"told for its size alone: zipped, its weights take {after / 1e6:.1f} MB in place of {before / 1e6:.1f}; "
            "zeros one by one make no engine here faster"
        )
        found = replace(self.with_networks(f"{percent(share)} of weights zero", made), told=told)
        return replace(found, refit=lambda: self.heads_for(found))

    def with_dimensions(self, wanted: int) -> Variant:
        """Return the model with its vectors brought to fewer dimensions, and heads fitted to those.

        Raises:
            UsageError: the vectors are no longer than that, or there are no training rows.
        """
        width = sum(each.network.backbone.width for each in self.whole.opened.values())
        if not 0 < wanted < (width or wanted + 1):
            raise UsageError(f"--dims is {wanted}.", allowed=f"1 to {width - 1}: the vectors have {width}.")
        found = replace(self.whole, name=f"{wanted} dimensions")
        return replace(found, targets=self.heads_for(found, wanted))

    def as_before(self, old: Opened, new: Opened, tuned: str = "") -> Opened:
        """Return a network that is opened as another one was."""
        return replace(new, view=old.view, tuned=tuned or old.tuned)

    def with_networks(self, name: str, opened: Mapping[str, Opened]) -> Variant:
        """Return the model with other networks."""
        inputs = [
            each.bind(opened[called].network) if (called := modalities.name_of(each)) in opened else each
            for each in self.whole.inputs
        ]
        return replace(self.whole, name=name, opened=opened, inputs=inputs)

    def modality(self, name: str) -> Modality:
        """Return a modality by name."""
        return next(each for each in self.whole.inputs if modalities.name_of(each) == name)

    def _calibration(self, name: str, opened: Opened, texts: int = CALIBRATION) -> list[Arrays]:
        """Return encoded training rows in batches."""
        rows, modality = self.rows(), self.modality(name)
        bound, most = modality.bind(opened.network), PICTURES if modality.files else texts
        chosen = np.random.default_rng(self.recipe.seed).permutation(len(rows))[:most]
        parts = [chosen[at : at + BATCH] for at in range(0, len(chosen), BATCH)]
        return [bound.encode(bound.prepare(take_rows(rows.table, part))) for part in parts]

    def rows(self) -> Rows:
        """Return the training rows.

        Raises:
            DataError: they are not to be had.
        """
        if self.ground.learnt is None:
            raise DataError(
                f"This needs training rows: {self.ground.why}", hint="Name the table they are in with --source TABLE."
            )
        return self.ground.learnt

    def heads_for(self, variant: Variant, dimensions: int = 0) -> dict[str, Target]:
        """Return heads that read a variant's vectors, calibrated on held-out training rows."""
        features = self.rows().features(variant.opened)
        shrink: Callable[[Head], Head] = lambda head: head  # noqa: E731
        if dimensions:
            mean, axes = components(features["embedding"], dimensions)
            shrink = lambda head: Projected(head, mean, axes)  # noqa: E731
            blank = Projected(Constant(np.zeros(1, np.float32)), mean, axes)
            features = {**features, "embedding": blank.project(features["embedding"])}
        return {name: self._target(name, old, features, shrink) for name, old in self.whole.targets.items()}

    def _target(self, name: str, old: Target, features: Arrays, shrink: Callable[[Head], Head]) -> Target:
        if "embedding" not in old.head.reads:
            return old
        rows = self.ground.labelled(name, judged=False)
        cells = self.rows().table[name]
        y = old.task.encode([cells[row] for row in rows])
        groups, seed = self.ground.groups[rows], self.recipe.seed
        job = Job(old.task, y, take(features, rows), groups, seed, Budget(), core_count(), Quiet())
        fitted = methods.head_methods()["probe"]().fit(job)
        task = old.task.calibrate(fitted.held_out, y, self.recipe.precision_target)
        return Target(task, shrink(fitted.head), old.baseline)


def without(share: float, attention: float) -> str:
    """Return the name of a form without a share of its channels and a share of its attention heads."""
    parts = [f"pruned {percent(share)}" if share else "", f"{percent(attention)} fewer heads" if attention else ""]
    return ", ".join(filter(None, parts))


def percent(share: float) -> str:
    """Return a share as it is read."""
    return f"{100 * share:g} %"
