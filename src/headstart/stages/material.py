"""What a network learns its own answers from: rows read, checked, and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import objectives
from headstart.core.dataset import Dataset, as_text, is_blank, table_rows, take_rows
from headstart.core.errors import DataError, UsageError, listed, nearest
from headstart.core.objective import Objective
from headstart.core.progress import Progress
from headstart.core.recipe import Recipe
from headstart.core.source import ReadOptions, Table
from headstart.core.split import hold_out
from headstart.stages.check import joined, kept_together, twin_groups
from headstart.stages.files import folder_of, is_file, opened_files, renamed_file
from headstart.stages.infer import RICH
from headstart.stages.kinds import kind_of
from headstart.stages.read import describe, read_table

LEAST = 10
"""Rows without which nothing is learnt."""
HELD, MOST_HELD = 0.15, 200
"""Share of the rows to learn from by which epochs are compared, and how many they are at most."""
SPLIT = "split"
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What the parts of data that come split are called."""


@dataclass(frozen=True)
class Material:
    """Rows for a network to learn from.

    Args:
        objective: what is learnt, from the training rows.
        dataset: the usable rows.
        train: numbers of the rows to learn from.
        held: numbers of the rows to choose by.
        test: numbers of the rows to judge by.
        twins: rows that have a near twin, and groups of two and more.
        test_origin: where the test rows came from.
    """

    objective: Objective
    dataset: Dataset
    train: np.ndarray
    held: np.ndarray
    test: np.ndarray
    twins: Mapping[str, int]
    test_origin: str
    warnings: Sequence[str]

    def table(self, rows: np.ndarray) -> Table:
        """Return some rows."""
        return take_rows(self.dataset.table, rows)


def gather(
    source: Any, test: Any, task: str, recipe: Recipe, own: Mapping[str, str], options: ReadOptions, progress: Progress
) -> Material:
    """Read a table, leave out what cannot be used, and split it.

    Args:
        test: another table to judge on, or None.
        task: a name of `objectives/`.
        own: settings of the objective, such as `words`: `whole` hides whole words.

    Raises:
        DataError: there are no answers in it, or too few rows.
    """
    kind = objectives.registry.get(task)
    columns = _columns(recipe, own)
    dataset = _read(source, options)
    if recipe.group:
        dataset.column(recipe.group)
    objective = kind.of(dataset, range(len(dataset)), columns)
    warnings: list[str] = []
    dataset = _meant(_usable(objective, dataset, warnings), objective)
    count = 0
    if test is not None:
        other = _usable(objective, _tested(test, objective, options), warnings)
        count = len(other)
        table = {name: [*cells, *other.table[name]] for name, cells in dataset.table.items() if name in other.table}
        dataset = replace(dataset, table=table)
    if len(dataset) - count < LEAST:
        raise DataError(
            f"{dataset.origin or 'The table'} has {len(dataset) - count} usable rows.",
            allowed=f"At least {LEAST} rows with an answer are needed; 100 are a good start.",
            hint=warnings[0] if warnings else "",
        )
    groups = twin_groups(dataset, joined(dataset))
    sizes = np.bincount(groups)
    twins = {"rows": int((sizes[groups] > 1).sum()), "groups": int((sizes > 1).sum())}
    if recipe.group in dataset.table:
        groups = kept_together(dataset, recipe.group, groups, warnings)
    held, tested, origin = _split(dataset, groups, count, recipe, warnings)
    if count:
        origin = describe(test)
    train = np.flatnonzero(~held & ~tested)
    objective = kind.of(dataset, np.flatnonzero(~tested).tolist(), columns)
    for line in [*dataset.notes, *warnings]:
        progress.say(line)
    return Material(objective, dataset, train, np.flatnonzero(held), np.flatnonzero(tested), twins, origin, warnings)


def _columns(recipe: Recipe, own: Mapping[str, str]) -> dict[str, str]:
    for name, given in (("input", recipe.input), ("target", recipe.target)):
        if len(given) > 1:
            raise UsageError(
                f"--{name} names {len(given)} columns: {listed(given)}.",
                allowed=f"A network that answers by itself has one column of {name}s.",
            )
    found = {"input": next(iter(recipe.input), ""), "target": next(iter(recipe.target), ""), **own}
    return {name: each for name, each in found.items() if each}


def _read(source: Any, options: ReadOptions) -> Dataset:
    table, notes = read_table(source, options)
    if not table_rows(table):
        raise DataError(f"There are no rows in {describe(source)}.", allowed=f"At least {LEAST} rows are needed.")
    kinds = {name: kind_of(name, cells) for name, cells in table.items()}
    inputs = {modality: [name for name, kind in kinds.items() if kind == modality] for modality in RICH}
    # A folder's files stand beside their names.
    for modality in ("image", "audio"):
        opened = [name for name in inputs[modality] if not isinstance(_first(table[name]), str)]
        inputs[modality] = opened or inputs[modality]
    files = [*inputs["image"], *inputs["audio"]]
    return Dataset(opened_files(table, files, folder_of(source)), inputs, (), kinds, describe(source), notes)


def _first(cells: Sequence[Any]) -> Any:
    return next((cell for cell in cells if not is_blank(cell)), "")


def _meant(dataset: Dataset, objective: Objective) -> Dataset:
    """Return the data set with the one input and the one target that it is about."""
    read, target = objective.columns
    modality = next((kind for kind in ("image", "audio") if read in dataset.inputs[kind]), "text")
    return replace(dataset, inputs={modality: [read, *objective.beside]}, targets=[target])


def _tested(test: Any, objective: Objective, options: ReadOptions) -> Dataset:
    dataset = _read(test, options)
    for name in [*objective.columns, *objective.beside]:
        dataset.column(name)
    return dataset


def _usable(objective: Objective, dataset: Dataset, warnings: list[str]) -> Dataset:
    """Return the rows that have an answer and can be read, telling what was left out.

    Raises:
        DataError: there are none.
    """
    kept, told = usable_rows(objective, dataset.table, dataset.origin)
    warnings += told
    return dataset if len(kept) == len(dataset) else dataset.rows(kept)


def usable_rows(objective: Objective, table: Table, origin: str, learning: bool = True) -> tuple[np.ndarray, list[str]]:
    """Return the numbers of the rows of use, (n,), and a sentence on the others where there are some.

    Raises:
        DataError: there are none.
    """
    out = objective.unusable(table, learning)
    rows = table_rows(table)
    if out and len(out) == rows:
        raise DataError(f"None of the {rows:,} rows of {origin} can be used: {next(iter(out.values()))}")
    shown = " ".join(list(out.values())[:5]) + (f" And {len(out) - 5:,} more." if len(out) > 5 else "")
    told = [f"{len(out):,} rows are left out: {shown}"] if out else []
    return np.array([row for row in range(rows) if row not in out], np.int64), told


def labelled(
    objective: Objective, modality: str, source: Any, options: ReadOptions
) -> tuple[Table, Sequence[str], Sequence[str]]:
    """Return the rows of a table that a network of a modality can be judged on, and notes and warnings on it.

    Raises:
        DataError: there are none, or a column is missing.
    """
    table, notes = read_table(source, options)
    files = [objective.columns[0]] if is_file(modality) else []
    dataset = Dataset(opened_files(renamed_file(table, files), files, folder_of(source)), origin=describe(source))
    for name in [*objective.columns, *objective.beside]:
        dataset.column(name)
    kept, warnings = usable_rows(objective, dataset.table, dataset.origin, learning=False)
    return take_rows(dataset.table, kept), notes, warnings


def _split(
    dataset: Dataset, groups: np.ndarray, count: int, recipe: Recipe, warnings: list[str]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return masks (n,) of the rows to choose by and to judge by, and where the latter come from.

    Args:
        count: how many rows at the end are of the test table.
    """
    rows = len(dataset)
    parts = _own_parts(dataset) if not count else None
    held = np.zeros(rows, bool)
    if count:
        tested, origin = np.arange(rows) >= rows - count, ""
    elif parts is not None:
        name = "test" if "test" in parts else "val"
        tested = parts == name
        held = parts == "val" if name == "test" else held
        origin = f"the data's own {name} rows"
        if recipe.test_share != Recipe().test_share:
            warnings.append(f"The test share of {recipe.test_share:g} is not used: the data comes split.")
    else:
        tested = hold_out(np.zeros(rows, np.int64), groups, recipe.test_share, recipe.seed)
        origin = f"{recipe.test_share:.0%} held out, near twins together"
    if not held.any():
        rest = np.flatnonzero(~tested)
        share = min(HELD, MOST_HELD / max(len(rest), 1))
        if len(rest):
            held[rest] = hold_out(np.zeros(len(rest), np.int64), groups[rest], share, recipe.seed + 1)
    held = _at_most(held, recipe.seed)
    shared = np.isin(groups[tested], groups[~tested]).sum()
    if shared:
        warnings.append(f"{shared:,} of the {tested.sum():,} test rows have a near twin among the rows to learn from.")
    for mask, what in ((~held & ~tested, "to learn from"), (held, "to choose by"), (tested, "to judge by")):
        if not mask.any():
            raise DataError(
                f"No row is left {what}.",
                allowed="Rows that are alike, or of one group, stay on one side of every split.",
                hint="Give more rows, or a column --group with more values.",
            )
    return held, tested, origin


def _at_most(held: np.ndarray, seed: int) -> np.ndarray:
    """Return a mask of no more rows than are read after every epoch; the others are learnt from."""
    rows = np.flatnonzero(held)
    if len(rows) <= MOST_HELD:
        return held
    kept = np.zeros(len(held), bool)
    kept[np.random.default_rng(seed).permutation(rows)[:MOST_HELD]] = True
    return kept


def _own_parts(dataset: Dataset) -> np.ndarray | None:
    """Return which part of the data each row belongs to, (n,), where a column `split` says it; else None."""
    name = next((each for each in dataset.table if each.strip().casefold() == SPLIT), "")
    if not name:
        return None
    said = [as_text(cell).strip().casefold() or "train" for cell in dataset.table[name]]
    if not all(each in PARTS for each in said):
        return None
    parts = np.array([PARTS[each] for each in said])
    return parts if len(set(parts)) > 1 and "train" in parts else None


def check_task(task: str) -> None:
    """Raise UsageError where nothing is learnt for a task of that name."""
    known = objectives.registry.names()
    if task not in known:
        raise UsageError(
            f"There is no task '{task}' that a network learns to answer by itself.",
            allowed=f"Tasks: {listed(known)}. For a column to predict, write --task COLUMN=TASK.",
            hint=nearest(task, known),
        )
