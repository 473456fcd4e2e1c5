"""From a table to what methods learn from: tasks, split, modalities, and features of every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import modalities, tasks
from headstart.core.dataset import Dataset, as_text, is_blank, table_rows, take_rows
from headstart.core.errors import DataError, UsageError, listed
from headstart.core.modality import Modality
from headstart.core.progress import Progress
from headstart.core.recipe import Recipe
from headstart.core.source import Table
from headstart.core.split import hold_out, strata_of
from headstart.core.task import Task
from headstart.stages import networks
from headstart.stages.check import Checked, drop_single
from headstart.stages.embeddings import Cache, embed

TRUNCATED = 0.05
"""Share of texts longer than the network reads from which the user is told."""


@dataclass(frozen=True)
class Prepared:
    """All that fitting and judging need, one row of arrays for each row of the data set.

    Args:
        dataset: training rows and test rows together.
        test: (n,) mask of the rows that are only ever judged on.
        groups: (n,) near-duplicate groups.
        tasks: by target.
        inputs: the modalities.
        opened: the network, or None.
        features: named arrays (n, …).
        warnings: sentences for the user.
    """

    dataset: Dataset
    test: np.ndarray
    groups: np.ndarray
    tasks: Mapping[str, Task]
    inputs: Sequence[Modality]
    opened: networks.Opened | None
    features: dict[str, np.ndarray]
    warnings: Sequence[str]

    def rows(self, target: str, test: bool) -> np.ndarray:
        """Return the labelled rows of a target on one side of the split."""
        labelled = self.dataset.labelled(target)
        return labelled[self.test[labelled] == test]

    def encoded(self, target: str, rows: np.ndarray) -> np.ndarray:
        """Return `y` of some rows."""
        cells = self.dataset.column(target)
        return self.tasks[target].encode([cells[row] for row in rows])


def choose_task(recipe: Recipe, target: str, cells: Sequence[Any]) -> type[Task]:
    """Return the task that the recipe names for a target, else the one that claims its cells most."""
    if target in recipe.task:
        return tasks.registry.get(recipe.task[target])
    found = {name: task.claims(cells) for name, task in tasks.registry.all().items()}
    best = max(found, key=lambda name: found[name])
    if not found[best]:
        raise DataError(f"No task can learn the target '{target}'.", allowed=f"Tasks: {listed(found)}.")
    return tasks.registry.get(best)


def split(checked: Checked, recipe: Recipe, test_rows: int) -> np.ndarray:
    """Return the mask of test rows: the last `test_rows` where a test table was given, else held out by group."""
    dataset = checked.dataset
    if test_rows:
        return np.arange(len(dataset)) >= len(dataset) - test_rows
    widest = max(dataset.targets, key=lambda name: len({as_text(cell) for cell in dataset.column(name)}))
    cells = [as_text(cell) for cell in dataset.column(widest)]
    if len(set(cells)) > 0.5 * len(cells):
        cells = [""] * len(cells)
    mask = hold_out(strata_of(cells), checked.groups, recipe.test_share, recipe.seed)
    if not 0 < mask.sum() < len(mask):
        raise DataError(
            f"No rows could be held out of {len(mask)}: nearly all of them are near duplicates of each other.",
            hint="Give rows of another kind to judge on with --test FILE.",
        )
    return mask


def make_tasks(
    dataset: Dataset, test: np.ndarray, recipe: Recipe, warnings: list[str]
) -> tuple[Dataset, dict[str, Task]]:
    """Return each target's task, learnt from training rows, and the data set without unusable labels."""
    made: dict[str, Task] = {}
    for target in recipe.task:
        if target not in dataset.targets:
            raise UsageError(
                f"--task names '{target}', which is not a target.", allowed=f"Targets: {listed(dataset.targets)}."
            )
    for target in dataset.targets:
        filled = [cell for cell in dataset.column(target) if not is_blank(cell)]
        kind = choose_task(recipe, target, filled)
        if kind is tasks.registry.get("classify"):
            dataset = drop_single(dataset, target, warnings)
        cells = dataset.column(target)
        train = [cell for cell, held in zip(cells, test, strict=True) if not held and not is_blank(cell)]
        if not train:
            raise DataError(f"The target '{target}' has no label in any training row.")
        made[target] = kind.of(target, train)
    return dataset, made


def prepare(dataset: Dataset, test: np.ndarray, groups: np.ndarray, recipe: Recipe, progress: Progress) -> Prepared:
    """Learn tasks and modalities from the training rows, open the backbone, and compute every row's features once.

    Args:
        test: (n,) mask of the rows that are only judged on.
        groups: (n,) near-duplicate groups.
    """
    warnings: list[str] = []
    dataset, made = make_tasks(dataset, test, recipe, warnings)
    train = take_rows(dataset.table, np.flatnonzero(~test))
    inputs = [
        modalities.registry.get(name).fit(train, columns, dataset.kinds) for name, columns in dataset.inputs.items()
    ]
    opened = _open(inputs, recipe, warnings, progress)
    if opened:
        inputs = [each.bind(opened.network) if each.pretrained else each for each in inputs]
    features = compute(inputs, dataset.table, opened, warnings, progress)
    return Prepared(dataset, test, groups, made, inputs, opened, features, warnings)


def _open(
    inputs: Sequence[Modality], recipe: Recipe, warnings: list[str], progress: Progress
) -> networks.Opened | None:
    if not any(each.pretrained for each in inputs):
        if recipe.backbone != "auto":
            raise UsageError(
                f"The backbone '{recipe.backbone}' reads text, and no input column holds free text.",
                hint="Name a text column with --input, or leave --backbone out.",
            )
        warnings.append(
            "No pretrained model was used: the inputs are numbers, categories and dates, whose meaning differs from "
            "table to table, so that no public model has learnt anything about them. Gradient boosting is used instead."
        )
        return None
    if recipe.method == "scratch":
        return None
    reference = networks.DEFAULT["text"] if recipe.backbone == "auto" else recipe.backbone
    opened = networks.open_network(reference, "", progress)
    progress.say(
        f"backbone {opened.network.backbone.reference}, {opened.format} {opened.precision}, {opened.threads} threads"
    )
    return opened


def compute(
    inputs: Sequence[Modality],
    table: Table,
    opened: networks.Opened | None,
    warnings: list[str],
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Return the named arrays of all rows, taking vectors from the cache where they are known."""
    features: dict[str, np.ndarray] = {}
    for modality in inputs:
        arrays = modality.prepare(table)
        features |= arrays
        if opened is None or not modality.pretrained:
            continue
        network = opened.network
        cache = Cache.of(
            network.backbone.checksum, opened.format, opened.precision, network.preprocessing, network.pooling
        )
        features["embedding"] = embed(modality, opened.session, arrays["text"], network.backbone.width, cache, progress)
        limit = network.preprocessing["max_length"]
        sample = arrays["text"][:: max(1, table_rows(table) // 1000)]
        long = float((modality.encode({"text": sample})["lengths"] >= limit).mean())
        if long > TRUNCATED:
            warnings.append(
                f"About {long:.0%} of the texts are longer than the {limit} tokens that the encoder reads; the rest of "
                "them is seen only by the from-scratch part of the model."
            )
    return features


def joined_tables(train: Dataset, test: Dataset | None) -> Dataset:
    """Return both tables' rows as one data set, training rows first.

    Raises:
        DataError: the test table lacks an input or target column.
    """
    if test is None:
        return train
    names = [*train.input_columns, *train.targets]
    table = {name: [*train.column(name), *test.column(name)] for name in names}
    return replace(train, table=table)
