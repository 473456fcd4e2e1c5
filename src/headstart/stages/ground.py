"""The rows that a bundle was fitted on, read again and split as they were, and its answers to those held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from headstart import modalities
from headstart.core.arrays import joined_vectors
from headstart.core.dataset import Dataset, is_blank, table_rows, take_rows
from headstart.core.errors import DataError, HeadstartError, UsageError
from headstart.core.modality import Modality
from headstart.core.progress import Progress
from headstart.core.recipe import Recipe
from headstart.core.source import ReadOptions, Table
from headstart.stages.files import folder_of, opened_files, renamed_file
from headstart.stages.fit import Given, check_given, read_given
from headstart.stages.model import Model
from headstart.stages.networks import Opened
from headstart.stages.prepare import make_tasks, split
from headstart.stages.read import read_table
from headstart.stages.views import vectors_of

HELD_OUT = "held out"
"""How a report says that rows of the same table were judged on."""


@dataclass(frozen=True)
class Rows:
    """Rows of a table and what is read of them once: all but the vectors, which differ from network to network.

    Args:
        table: the rows.
        inputs: the modalities that read them.
    """

    table: Table
    inputs: Sequence[Modality]
    progress: Progress

    def __len__(self) -> int:
        return table_rows(self.table)

    @cached_property
    def prepared(self) -> dict[str, dict[str, np.ndarray]]:
        """The arrays of each modality, before a network."""
        return {modalities.name_of(each): each.prepare(self.table) for each in self.inputs}

    @cached_property
    def plain(self) -> dict[str, np.ndarray]:
        """All arrays that no network gives."""
        found: dict[str, np.ndarray] = {}
        for each in self.inputs:
            own = self.prepared[modalities.name_of(each)]
            found |= own | each.handcrafted(own)
        return found

    def features(self, opened: Mapping[str, Opened]) -> dict[str, np.ndarray]:
        """Return the named arrays that heads read, with the vectors of some networks."""
        vectors = []
        for each in self.inputs:
            name = modalities.name_of(each)
            if name in opened:
                bound = each.bind(opened[name].network)
                vectors.append(vectors_of(bound, opened[name], self.prepared[name], self.progress))
        return self.plain | ({"embedding": joined_vectors(vectors)} if vectors else {})


@dataclass(frozen=True)
class Ground:
    """What a bundle is judged on, and what it learnt from.

    Args:
        judged: rows that neither heads nor thresholds were chosen by, with the right answers.
        learnt: the training rows; None where they are not to be had.
        groups: near-duplicate groups of the training rows.
        origin: where the judged rows come from.
        why: why there are no training rows.
    """

    judged: Rows
    learnt: Rows | None
    groups: np.ndarray
    origin: str
    why: str = ""

    def labelled(self, target: str, *, judged: bool) -> np.ndarray:
        """Return the numbers of the rows that have a label."""
        rows = self.judged if judged or self.learnt is None else self.learnt
        return np.array([row for row, cell in enumerate(rows.table[target]) if not is_blank(cell)], np.int64)


def ground(model: Model, recipe: Recipe, source: Any, test: Any, options: ReadOptions, progress: Progress) -> Ground:
    """Return the rows of a bundle.

    Args:
        source: the table that it was fitted on; None takes what its report names.
        test: a labelled table to judge on; None takes the rows that were held out when it was fitted.

    Raises:
        DataError: the rows are gone or are others now, and no test table is given.
    """
    data = model.report.get("data", {})
    asked = source if source is not None else data.get("origin", "")
    old_test = data.get("test_origin", "")
    given = Given(asked, None if not old_test or HELD_OUT in old_test else old_test, None, options)
    inputs = model.runtime.inputs
    try:
        dataset, mask, groups = _again(given, recipe, model)
    except HeadstartError as error:
        if test is None:
            raise DataError(
                f"The rows that '{model.path}' was fitted on cannot be used: {error.problem}",
                hint="Name them with --source TABLE, or give labelled rows to judge on with --test TABLE.",
            ) from error
        table, origin = _read(model, test, options)
        return Ground(Rows(table, inputs, progress), None, np.zeros(0, np.int64), origin, error.problem)
    train = np.flatnonzero(~mask)
    learnt = Rows(take_rows(dataset.table, train), inputs, progress)
    if test is not None:
        table, origin = _read(model, test, options)
        return Ground(Rows(table, inputs, progress), learnt, groups[train], origin)
    judged = Rows(take_rows(dataset.table, np.flatnonzero(mask)), inputs, progress)
    return Ground(judged, learnt, groups[train], old_test or HELD_OUT)


def _again(given: Given, recipe: Recipe, model: Model) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Return all rows, which are only judged on, and their groups, as `fit` had them.

    Raises:
        DataError: they are other rows now.
    """
    if not given.source:
        raise DataError("The bundle does not say where its rows come from.")
    targets, inputs = tuple(model.runtime.targets), tuple(model.runtime.columns)
    dataset, test_set = read_given(given, replace(recipe, target=targets, input=inputs))
    checked, tested = check_given(dataset, test_set, recipe.group)
    mask = split(checked, recipe, tested)
    dataset, _ = make_tasks(checked.dataset, mask, recipe, [])
    known = model.report.get("data", {}).get("fingerprint")
    if known and dataset.fingerprint() != known:
        raise DataError(f"'{dataset.origin}' holds other rows now than when the model was fitted.")
    return dataset, mask, checked.groups


def _read(model: Model, test: Any, options: ReadOptions) -> tuple[Table, str]:
    from headstart.stages.read import describe

    table, _ = read_table(test, options)
    files = model.runtime.file_columns
    table = opened_files(renamed_file(table, files), files, folder_of(test))
    model.runtime.check_columns(table)
    for name in model.runtime.targets:
        if name not in table or all(is_blank(cell) for cell in table[name]):
            raise UsageError(
                f"'{describe(test)}' has no answers for '{name}': nothing can be judged on it.",
                hint=f"Give a table with a column '{name}'.",
            )
    return table, describe(test)
