"""Look at a data set before training: what is wrong with it, and what follows."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import modalities
from headstart.core.dataset import Dataset, as_text, is_blank
from headstart.core.errors import DataError, listed
from headstart.sources._cells import as_flat_text
from headstart.stages import twins
from headstart.stages.language import shares

FEW = 10
"""Rows of a class below which it is called small."""
SAMPLE = 4000
"""Rows whose language is guessed."""
TWIN = {
    "text": "a near twin (a copy, a rewording or a translation)",
    "image": "a near twin (the same picture, or nearly)",
}
LEAK = 0.99
"""Share of rows that one column must explain, or labels that stand in the text, to be called a leak."""


@dataclass(frozen=True)
class Checked:
    """A data set fit for training, with what was found.

    Args:
        dataset: without rows that cannot be used.
        groups: (n,) group numbers of near duplicates.
        warnings: sentences for the user.
        twins: rows that have a near twin, and groups of two and more.
    """

    dataset: Dataset
    groups: np.ndarray
    warnings: Sequence[str]
    twins: dict[str, int]


def check(dataset: Dataset, group: str = "") -> Checked:
    """Check a data set with inputs and targets.

    Args:
        group: a column whose equal values keep rows together, as twins are.

    Raises:
        DataError: nothing can be trained on it.
    """
    warnings: list[str] = []
    dataset = usable(dataset, warnings)
    if len(dataset) < 10:
        raise DataError(
            f"{dataset.origin or 'The table'} has {len(dataset)} usable rows.",
            allowed="At least 10 rows with an input and a label are needed; 10 for each class is a good start.",
        )
    texts = joined(dataset)
    # Rows of numbers and categories are alike by nature; only equal ones are twins.
    groups = twin_groups(dataset, texts)
    sizes = np.bincount(groups)
    counted = {"rows": int((sizes[groups] > 1).sum()), "groups": int((sizes > 1).sum())}
    for target in dataset.targets:
        warnings += _target_warnings(dataset, target)
        warnings += _conflicts(dataset, texts, target)
        warnings += _leaks(dataset, target)
    if counted["rows"] > 0.02 * len(dataset):
        kind = next((words for name, words in TWIN.items() if name in dataset.inputs), "an equal twin")
        warnings.append(
            f"{counted['rows']:,} of {len(dataset):,} rows have {kind}; twins are kept on one side of every split, "
            "because a model that has seen a row's twin only has to remember it."
        )
    if "text" in dataset.inputs:
        warnings += _language_warnings(joined(dataset, "text"))
    if group:
        groups = kept_together(dataset, group, groups, warnings)
    return Checked(dataset, groups, warnings, counted)


def twin_groups(dataset: Dataset, texts: Sequence[str]) -> np.ndarray:
    """Return a group number for each row, (n,): texts that are nearly equal, or files, or equal rows of values."""
    parts = [twins.groups(joined(dataset, "text"))] if "text" in dataset.inputs else []
    for name, columns in dataset.inputs.items():
        modality = modalities.registry.get(name).fit(dataset.table, columns, dataset.kinds)
        found = modality.signatures(dataset.table)
        if found is not None:
            parts.append(twins.near(found))
        elif modality.files:
            parts.append(twins.same(joined(dataset, name)))
    return twins.merged(parts) if parts else twins.same(texts)


def kept_together(dataset: Dataset, group: str, groups: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Return group numbers (n,) in which rows with one value of a column are together, besides those that were.

    Raises:
        DataError: it has too few values.
    """
    cells = [as_text(cell).strip() for cell in dataset.column(group)]
    # A blank says nothing: such a row is a group of its own.
    named = [cell or f"\x00{row}" for row, cell in enumerate(cells)]
    different = len(set(named))
    if different < 3:
        raise DataError(
            f"The column '{group}' has {different} different values; rows cannot be held out by it.",
            allowed="At least 3 groups are needed, and 10 or more tell something.",
        )
    warnings.append(f"Rows are held out by '{group}': {different:,} groups, none on both sides of a split.")
    return twins.merged([groups, twins.same(named)])


def joined(dataset: Dataset, modality: str = "") -> list[str]:
    """Return each row's input cells, of one modality or all, as one text, for comparing rows.

    A file stands there as a hash of what is in it: copies differ in name, and files of one name may differ.
    """
    columns: list[list[str]] = []
    for name, names in dataset.inputs.items():
        if modality in ("", name):
            columns += _compared(dataset, name, names)
    return ["\n".join(cells) for cells in zip(*columns, strict=True)]


def _compared(dataset: Dataset, name: str, columns: Sequence[str]) -> list[list[str]]:
    kind = modalities.registry.get(name)
    if not kind.files:
        return [[as_text(cell) for cell in dataset.table[column]] for column in columns]
    modality = kind.fit(dataset.table, columns, dataset.kinds)
    contents = modality.contents(modality.prepare(dataset.table))
    return [[hashlib.sha256(each if isinstance(each, bytes) else each.encode()).hexdigest() for each in contents]]


def usable(dataset: Dataset, warnings: list[str]) -> Dataset:
    """Return the rows that have an input and a label for some target, telling what was left out.

    Raises:
        DataError: a target has no label at all.
    """
    inputs = [dataset.column(name) for name in dataset.input_columns]
    targets = [dataset.column(name) for name in dataset.targets]
    blank_input = np.array([all(map(is_blank, cells)) for cells in zip(*inputs, strict=True)], dtype=bool)
    blank_target = np.array([all(map(is_blank, cells)) for cells in zip(*targets, strict=True)], dtype=bool)
    if blank_input.any():
        warnings.append(f"{int(blank_input.sum()):,} rows have no input at all and are left out.")
    if (blank_target & ~blank_input).any():
        count = int((blank_target & ~blank_input).sum())
        warnings.append(f"{count:,} rows have no label for any target and are left out.")
    broken = _unreadable(dataset, warnings)
    keep = np.flatnonzero(~blank_input & ~blank_target & ~broken)
    for name in dataset.targets:
        if not any(not is_blank(dataset.table[name][row]) for row in keep):
            raise DataError(f"The target '{name}' is empty in every row.", hint="Name another column with --target.")
    return dataset if len(keep) == len(dataset) else dataset.rows(keep)


def _unreadable(dataset: Dataset, warnings: list[str]) -> np.ndarray:
    """Return a mask (n,) of rows whose picture or recording cannot be read, each named."""
    broken = np.zeros(len(dataset), bool)
    for name, columns in dataset.inputs.items():
        modality = modalities.registry.get(name)
        if not modality.files:
            continue
        found = modality.fit(dataset.table, columns, dataset.kinds).unreadable(dataset.table)
        broken[list(found)] = True
        empty = [row for row, cell in enumerate(dataset.column(columns[0])) if is_blank(cell)]
        broken[empty] = True
        if broken.all():
            reason = next(iter(found.values()), "all cells are blank.")
            raise DataError(
                f"None of the {len(dataset):,} files in '{columns[0]}' can be read: {reason}",
                hint="Relative names count from the table's own folder.",
            )
        if found:
            shown = " ".join(list(found.values())[:5]) + (f" And {len(found) - 5} more." if len(found) > 5 else "")
            warnings.append(f"{len(found):,} rows are left out because their {name} cannot be read: {shown}")
    return broken


def _target_warnings(dataset: Dataset, target: str) -> list[str]:
    filled = [cell for cell in dataset.column(target) if not is_blank(cell)]
    warnings = []
    if len(filled) < len(dataset):
        share = 1 - len(filled) / len(dataset)
        warnings.append(
            f"'{target}' is blank in {len(dataset) - len(filled):,} rows ({share:.0%}): it is learnt from the "
            f"{len(filled):,} rows that have it, and answered for every row."
        )
    parts = [cell if isinstance(cell, (list, tuple, set)) else [cell] for cell in filled]
    counts = Counter(as_text(part).strip() for cell in parts for part in cell)
    small = sorted(label for label, count in counts.items() if 1 < count < FEW)
    if small and len(counts) <= 0.5 * len(filled):
        warnings.append(f"'{target}' has {len(small)} classes with fewer than {FEW} rows: {listed(small, 6)}.")
    return warnings


def drop_single(dataset: Dataset, target: str, warnings: list[str]) -> Dataset:
    """Blank the labels of classes that have one row, which can be learnt or checked but not both.

    Raises:
        DataError: fewer than two classes are left.
    """
    cells = dataset.column(target)
    counts = Counter(as_text(cell).strip() for cell in cells if not is_blank(cell))
    single = sorted(label for label, count in counts.items() if count == 1)
    if not single:
        return dataset
    if len(counts) - len(single) < 2:
        left = sorted(set(counts) - set(single))
        raise DataError(
            f"The target '{target}' has {len(single)} classes with a single row ({listed(single, 6)}) and "
            f"{len(left)} with more.",
            allowed="At least two classes with two rows or more are needed.",
            hint="Add rows, merge rare classes, or name another column with --target.",
        )
    warnings.append(
        f"'{target}' has {len(single)} classes with a single row, which are left out because they cannot be both "
        f"learnt and checked: {listed(single, 6)}."
    )
    lone = set(single)
    kept: list[Any] = [None if as_text(cell).strip() in lone else cell for cell in cells]
    return replace(dataset, table={**dataset.table, target: kept})


def _conflicts(dataset: Dataset, texts: Sequence[str], target: str) -> list[str]:
    labels: dict[str, set[str]] = defaultdict(set)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, (text, cell) in enumerate(zip(texts, dataset.column(target), strict=True)):
        if not is_blank(cell):
            labels[text].add(as_text(cell).strip())
            rows[text].append(row)
    torn = [text for text, found in labels.items() if len(found) > 1]
    if not torn:
        return []
    cells = [dataset.table[name][rows[torn[0]][0]] for name in dataset.input_columns]
    example = " ".join(" ".join(as_flat_text(cell) for cell in cells).split())[:60]
    return [
        f"{sum(len(rows[text]) for text in torn):,} rows have equal inputs but different '{target}' "
        f"(for example '{example}'): no model can get them all right."
    ]


def _leaks(dataset: Dataset, target: str) -> list[str]:
    cells = dataset.column(target)
    rows = [row for row, cell in enumerate(cells) if not is_blank(cell)]
    labels = [as_text(cells[row]).strip() for row in rows]
    classes = set(labels)
    if not 2 <= len(classes) <= 0.2 * len(labels):
        return []
    commonest = Counter(labels).most_common(1)[0][1] / len(labels)
    warnings = []
    for name in dataset.inputs.get("row", ()):
        column = dataset.table[name]
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        for row, label in zip(rows, labels, strict=True):
            seen[as_text(column[row])][label] += 1
        if len(seen) <= 0.2 * len(labels):
            explained = sum(found.most_common(1)[0][1] for found in seen.values()) / len(labels)
            if explained >= LEAK and explained > commonest + 0.02:
                warnings.append(
                    f"The column '{name}' alone gives '{target}' in {explained:.1%} of the rows. If it is known only "
                    f"after the fact, it leaks the answer: leave it out with --input."
                )
    for name in dataset.inputs.get("text", ()):
        column = dataset.table[name]
        inside = np.mean(
            [
                len(label) > 3 and label.casefold() in as_text(column[row]).casefold()
                for row, label in zip(rows, labels, strict=True)
            ]
        )
        if inside >= 0.9:
            warnings.append(
                f"The text of '{name}' holds its own '{target}' in {inside:.0%} of the rows: the answer leaks."
            )
    return warnings


def _language_warnings(texts: Sequence[str]) -> list[str]:
    step = max(1, len(texts) // SAMPLE)
    found = shares(texts[::step])
    foreign = 1 - found.get("en", 0.0) if found else 0.0
    if foreign < 0.1:
        return []
    shown = ", ".join(f"{code} {share:.0%}" for code, share in list(found.items())[:5])
    return [
        f"About {foreign:.0%} of the texts are not English ({shown}). The built-in encoder was trained on English; "
        "the from-scratch part of the model reads any language, and the report shows which one helped."
    ]
