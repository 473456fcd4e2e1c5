"""From a table to what methods learn from: tasks, split, modalities, and features of every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import modalities, tasks
from headstart.core.arrays import Arrays, Session, joined_vectors
from headstart.core.dataset import Dataset, as_text, is_blank, take_rows
from headstart.core.errors import DataError, UsageError, listed
from headstart.core.modality import Modality
from headstart.core.progress import Progress
from headstart.core.recipe import Recipe
from headstart.core.source import Table
from headstart.core.split import hold_out, strata_of
from headstart.core.task import Task
from headstart.stages import networks
from headstart.stages.backbones import open_backbones
from headstart.stages.check import Checked, drop_single
from headstart.stages.engine import settled
from headstart.stages.views import best_view, vectors_of

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
        opened: the network of each modality that has one.
        features: named arrays (n, …).
        more: `embedding` (n, …) of the training rows' mirror images, 0 for the others, where learning from them helps.
        warnings: sentences for the user.
    """

    dataset: Dataset
    test: np.ndarray
    groups: np.ndarray
    tasks: Mapping[str, Task]
    inputs: Sequence[Modality]
    opened: Mapping[str, networks.Opened]
    features: dict[str, np.ndarray]
    warnings: Sequence[str]
    more: Sequence[Arrays] = ()

    @property
    def sessions(self) -> dict[str, Session]:
        """The opened networks by modality."""
        return {name: each.session for name, each in self.opened.items()}

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
    opened = open_backbones(
        [modalities.name_of(each) for each in inputs if each.pretrained], recipe, warnings, progress
    )
    inputs = [
        each.bind(opened[name].network) if (name := modalities.name_of(each)) in opened else each for each in inputs
    ]
    opened = {
        **opened,
        **{
            name: settled(opened[name], each, train, progress)
            for each in inputs
            if (name := modalities.name_of(each)) in opened
        },
    }
    both = False
    if "image" in opened and (task := _told_apart(made)):
        labelled = dataset.labelled(task.target)
        at = next(number for number, each in enumerate(inputs) if modalities.name_of(each) == "image")
        view, both = best_view(inputs[at], opened["image"], dataset, labelled[~test[labelled]], groups, task, progress)
        opened, inputs[at] = {**opened, "image": view}, inputs[at].bind(view.network)
    features = compute(inputs, dataset.table, opened, warnings, progress)
    more = [_mirrored(inputs, train, opened, test, progress)] if both else []
    return Prepared(dataset, test, groups, made, inputs, opened, features, warnings, more)


def _mirrored(
    inputs: Sequence[Modality],
    train: Table,
    opened: Mapping[str, networks.Opened],
    test: np.ndarray,
    progress: Progress,
) -> Arrays:
    """Return the vectors (n, width) of the training rows with their pictures mirrored; 0 for the test rows."""
    running = {**opened, "image": networks.mirrored(opened["image"])}
    pairs = [(each, running[name]) for each in inputs if (name := modalities.name_of(each)) in running]
    found = joined_vectors([vectors_of(each, own, each.prepare(train), progress) for each, own in pairs])
    vectors = np.zeros((len(test), found.shape[1]), np.float32)
    vectors[~test] = found
    return {"embedding": vectors}


def _told_apart(made: Mapping[str, Task]) -> Task | None:
    """Return the first task whose answers tell rows apart by a class or mark; numbers say less about a view."""
    return next((task for task in made.values() if task.width > 1), None)


def compute(
    inputs: Sequence[Modality],
    table: Table,
    opened: Mapping[str, networks.Opened],
    warnings: list[str],
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Return the named arrays of all rows, taking vectors from the cache where they are known."""
    features: dict[str, np.ndarray] = {}
    vectors = []
    for modality in inputs:
        arrays = modality.prepare(table)
        features |= arrays | modality.handcrafted(arrays)
        running = opened.get(modalities.name_of(modality))
        if running is None:
            continue
        vectors.append(vectors_of(modality, running, arrays, progress))
        if "text" in arrays:
            warnings += _cut(modality, arrays["text"], running.network.preprocessing["max_length"])
    if vectors:
        features["embedding"] = joined_vectors(vectors)
    return features


def _cut(modality: Modality, texts: np.ndarray, limit: int) -> list[str]:
    sample = texts[:: max(1, len(texts) // 1000)]
    long = float((modality.encode({"text": sample})["lengths"] >= limit).mean())
    if long <= TRUNCATED:
        return []
    return [
        f"About {long:.0%} of the texts are longer than the {limit} tokens that the encoder reads; the rest of "
        "them is seen only by the from-scratch part of the model."
    ]


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
