"""Courses: what methods that change weights get of a prepared table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart import methods, modalities
from headstart.core import VERSION
from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.course import Course, Examples, Lesson
from headstart.core.errors import UsageError, listed, nearest
from headstart.core.files import cache_folder
from headstart.core.method import Budget
from headstart.core.progress import Progress
from headstart.core.recipe import Recipe
from headstart.core.registry import require
from headstart.core.source import Table
from headstart.core.split import hold_out, strata_of
from headstart.core.threads import core_count
from headstart.stages.examples import VARIED, examples_of
from headstart.stages.learn import Learnt
from headstart.stages.networks import start
from headstart.stages.prepare import Prepared
from headstart.training.plan import Plan

HELD = 0.15
"""Share of the training rows by which methods are compared; they are never learnt from."""
MOST_HELD = 1_500


@final
@dataclass(frozen=True)
class Ground:
    """Where the ladder stands: the table with frozen features, and what was learnt from them.

    Args:
        prepared: the rows, and the one network that reads them.
        learnt: by target.
        held: mask over all rows of those by which methods are compared.
        more: the input columns of rows without labels, or None.
    """

    prepared: Prepared
    learnt: Mapping[str, Learnt]
    held: np.ndarray
    recipe: Recipe
    budget: Budget
    progress: Progress
    more: Table | None = None
    resume: bool = False

    def course(self, name: str, options: Mapping[str, Any]) -> Course:
        """Return what the method `name` learns from, with some settings in place of the recipe's."""
        prepared, more = self.prepared, self.more
        modality, opened = next(iter(prepared.opened.items()))
        network = opened.network
        lessons = {target: _lesson(each, len(prepared.test)) for target, each in self.learnt.items()}
        train = ~prepared.test & ~self.held & np.any([each.known for each in lessons.values()], axis=0)
        at = next(each for each in prepared.inputs if modalities.name_of(each) == modality)
        seed, settings = self.recipe.seed, {**self._settings(name), **options}
        varied = str(settings.get("varied", VARIED[0]))
        return Course(
            network=network,
            open=opened_for_training,
            examples=Late(lambda: examples_of(at, network, at.prepare(prepared.dataset.table), seed, varied)),
            train=np.flatnonzero(train),
            held=np.flatnonzero(self.held),
            lessons=lessons,
            folder=self.folder(name, options),
            seed=seed,
            budget=self.budget,
            threads=core_count(),
            progress=self.progress,
            resume=self.resume,
            options=settings,
            vectors=prepared.features["embedding"],
            unlabelled=Late(lambda: examples_of(at, network, at.prepare(more), seed)) if more is not None else None,
        )

    def _settings(self, name: str) -> dict[str, Any]:
        """Return the recipe's settings; on a ladder of several methods, those that this one has."""
        if self.recipe.method != "auto":
            return dict(self.recipe.options)
        known = settings_of([name])
        return {key: value for key, value in self.recipe.options.items() if key in known}

    def folder(self, name: str, options: Mapping[str, Any]) -> Path:
        """Return where a method keeps its work: the same for the same data, recipe and settings."""
        checksums = [each.network.backbone.checksum for each in self.prepared.opened.values()]
        settings = [self.recipe.seed, dict(self.recipe.options), self.recipe.search, name, dict(options)]
        told = [VERSION, self.prepared.dataset.fingerprint(), checksums, *settings]
        digest = hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()
        return cache_folder() / "runs" / digest


def settings_of(names: Iterable[str]) -> set[str]:
    """Return the names of all settings that some methods which change weights have."""
    own = {key for name in names for key in methods.network_methods()[name].options}
    return own | {each.name for each in fields(Plan)} | {"log"}


def check_settings(recipe: Recipe) -> None:
    """Raise UsageError where a setting is given that no method of the ladder has, or that none would read."""
    names = methods.network_methods()
    if recipe.method in names or not recipe.options:
        return
    if recipe.method != "auto" or not recipe.budget:
        raise UsageError(
            f"--set {listed(recipe.options)} is read by methods that change weights only, and none is asked for.",
            hint="Name one with --method, or give a --budget.",
        )
    known = settings_of(names)
    for name in recipe.options:
        if name not in known:
            raise UsageError(
                f"There is no setting '{name}'.",
                allowed=f"Settings: {listed(sorted(known), 40)}.",
                hint=nearest(name, known),
            )


def _lesson(learnt: Learnt, rows: int) -> Lesson:
    y = np.zeros((rows, *learnt.y.shape[1:]), learnt.y.dtype)
    known = np.zeros(rows, bool)
    y[learnt.rows], known[learnt.rows] = learnt.y, True
    return Lesson(learnt.target.task, y, known)


def held_rows(prepared: Prepared, learnt: Mapping[str, Learnt], seed: int) -> np.ndarray:
    """Return a mask over all rows: the training rows by which rungs are compared."""
    rows = np.flatnonzero(~prepared.test)
    name = max(learnt, key=lambda each: len(learnt[each].rows))
    cells = prepared.dataset.column(name)
    strata = strata_of([str(cells[row]) for row in rows]) if learnt[name].target.task.width > 1 else np.zeros(len(rows))
    share = min(HELD, MOST_HELD / max(len(rows), 1))
    held = np.zeros(len(prepared.test), bool)
    held[rows[hold_out(strata.astype(np.int64), prepared.groups[rows], share, seed + 1)]] = True
    return held


@final
class Late(Examples):
    """Examples that are made when they are first asked for: a rung may turn out not to be tried."""

    def __init__(self, make: Callable[[], Examples]) -> None:
        self.make = make
        self.made: Examples | None = None

    def _made(self) -> Examples:
        self.made = self.made or self.make()
        return self.made

    @property
    def sizes(self) -> np.ndarray:
        """How long each row is (n,)."""
        return self._made().sizes

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return what the network reads of some rows."""
        return self._made().batch(rows, epoch)


def opened_for_training(network: Network) -> Session:
    """Open a network with PyTorch.

    Raises:
        MissingExtra: PyTorch, or the network's library, is not installed.
    """
    require("torch", "finetune")
    require("accelerate", "finetune")
    return start(network, "torch", precision="f32").session
