"""Infer what a table means: column kinds, inputs and targets, each choice told in a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from headstart.core.dataset import Dataset, as_text, is_blank, table_rows
from headstart.core.errors import DataError, UsageError, listed
from headstart.core.source import Table
from headstart.stages.kinds import is_number, is_text_name, kind_of, word_count, words_of_name

RICH = ("text", "image", "audio")
"""Kinds of columns that pretrained networks read."""
KINDS = {"text": "text", "image": "picture", "audio": "recording"}
UNUSABLE = {
    "id": "an identifier",
    "constant": "always the same",
    "empty": "empty",
    "boxes": "boxes that were marked, as the labels were",
}
TARGET_NAMES = (
    *("label", "labels", "target", "class", "category", "intent", "department", "queue", "sentiment", "topic"),
    *("outcome", "tag", "tags", "churn", "churned", "priority", "y", "type"),
)
"""What a column to predict is called, the surest first."""
AFTER = re.compile(
    "answers?|reply|replies|responses?|resolution|resolved|solutions?|solved|closed|closing|completed|csat|satisfaction"
)
"""Words in the names of columns that are filled in when the decision has been taken."""
AFTER_PAIRS = frozenset({("agent", "notes"), ("work", "notes"), ("internal", "notes"), ("close", "notes")})


def infer(
    table: Table,
    *,
    targets: Sequence[str],
    inputs: Sequence[str] = (),
    group: str = "",
    origin: str = "",
    notes: Sequence[str] = (),
) -> Dataset:
    """Return the data set that a table is meant as.

    Args:
        table: all columns.
        targets: columns to predict; where empty, one is chosen.
        inputs: columns to predict from; where empty, they are chosen.
        group: a column that says which rows belong together; it is no input.
        origin: where the table came from, for sentences.
        notes: what was found out while reading.

    Raises:
        DataError: a column does not exist, or there are no rows or no usable inputs.
        UsageError: no target can be chosen, or a target is also an input.
    """
    where = origin or "the table"
    if not table_rows(table):
        raise DataError(f"There are no rows in {where}.", allowed="At least a row below the header is needed.")
    plain = Dataset(table, origin=origin)
    targets, inputs = list(dict.fromkeys(targets)), list(dict.fromkeys(inputs))
    for name in [*targets, *inputs, *([group] if group else [])]:
        plain.column(name)
    both = [name for name in targets if name in inputs]
    if both:
        raise UsageError(
            f"{listed(both)} cannot be both input and target.", hint="Leave it out of --input or out of --target."
        )
    kinds = {name: kind_of(name, cells) for name, cells in table.items()}
    told = list(notes)
    if not targets:
        targets = [_choose_target(table, kinds, inputs, told)]
    free = {name: kind for name, kind in kinds.items() if name != group}
    chosen = _sort_inputs(table, kinds, inputs) if inputs else _choose_inputs(free, targets, where, told)
    used = {modality: columns for modality, columns in chosen.items() if columns}
    told.append("inputs: " + "; ".join(_told(modality, columns, kinds) for modality, columns in used.items()))
    return Dataset(table, used, targets, kinds, origin, told)


def _told(modality: str, columns: Sequence[str], kinds: Mapping[str, str]) -> str:
    if modality != "row":
        return f"{listed(columns)} ({modality})"
    return _with_kinds({name: kinds[name] for name in columns})


def _with_kinds(kinds: Mapping[str, str]) -> str:
    shown = [f"'{name}' ({kind})" for name, kind in kinds.items()]
    return ", ".join(shown[:30]) + (f" and {len(shown) - 30} more" if len(shown) > 30 else "")


def _choose_target(table: Table, kinds: Mapping[str, str], inputs: Sequence[str], told: list[str]) -> str:
    """Return the column that looks most like something to predict."""
    free = [name for name, kind in kinds.items() if kind not in UNUSABLE and name not in inputs]
    words = {name: words_of_name(name) for name in free}
    for wanted in TARGET_NAMES:
        for name in free:
            if words[name] == [wanted]:
                told.append(f"target: '{name}' (by its name); pass --target to choose another")
                return name
    for name in reversed(free):
        if words[name] and words[name][-1] in TARGET_NAMES and kinds[name] in ("category", "number"):
            told.append(f"target: '{name}' (by its name); pass --target to choose another")
            return name
    for name in reversed(free):
        if (kinds[name] == "category" or _two_valued(table[name])) and len(free) > 1:
            told.append(f"target: '{name}' (the last column of categories); pass --target to choose another")
            return name
    raise UsageError(
        "Which column is to be predicted? None looks like a label.",
        allowed=f"Columns: {_with_kinds(kinds)}.",
        hint="Pass --target COLUMN.",
    )


def _two_valued(cells: Sequence[object]) -> bool:
    return len({as_text(cell).strip() for cell in cells if not is_blank(cell)}) == 2


def _sort_inputs(table: Table, kinds: dict[str, str], inputs: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns asked for by modality, settling the kinds of those that are no plain text or value."""
    for name in inputs:
        filled = [cell for cell in table[name] if not is_blank(cell)]
        if kinds[name] == "id":
            kinds[name] = "number" if all(map(is_number, filled)) else "category"
        if kinds[name] == "category" and len(inputs) == 1 and _reads_as_text(name, [as_text(cell) for cell in filled]):
            kinds[name] = "text"
    sorted_by = {kind: [name for name in inputs if kinds[name] == kind] for kind in RICH}
    return {**sorted_by, "row": [name for name in inputs if kinds[name] not in RICH]}


def _reads_as_text(name: str, texts: Sequence[str]) -> bool:
    """Return whether a column of short texts that stands alone is better read as text than as categories."""
    words = sum(map(word_count, texts)) / len(texts)
    return words > 0 and (is_text_name(name) or words >= 2 or len(set(texts)) > 0.2 * len(texts))


def _choose_inputs(
    kinds: Mapping[str, str], targets: Sequence[str], where: str, told: list[str]
) -> dict[str, list[str]]:
    """Return the columns to predict from by modality: free text if there is any, else all that is left."""
    free = [name for name in kinds if name not in targets]
    useless = [name for name in free if kinds[name] in UNUSABLE]
    known_after = [name for name in free if name not in useless and _is_after(name)]
    derived = [name for name in free if name not in [*useless, *known_after] and _belongs(name, targets)]
    left = [name for name in free if name not in [*useless, *known_after, *derived]]
    if not left and known_after:
        told.append(f"used although the name sounds like it is written after the decision: {listed(known_after)}")
        left, known_after = known_after, []
    if not left:
        raise DataError(
            f"No column is left in {where} to predict {listed(targets)} from.",
            allowed=f"Columns: {_with_kinds(kinds)}.",
            hint="Pass --input COLUMN to use one of them all the same.",
        )
    rich = {kind: [name for name in left if kinds[name] == kind] for kind in RICH}
    # One picture or recording tells a row apart from others; a second one is seldom wanted unasked.
    rich |= {kind: rich[kind][:1] for kind in ("image", "audio")}
    named = [name for names in rich.values() for name in names]
    beside = [name for name in left if name not in named]
    if useless:
        told.append("not used: " + ", ".join(f"'{name}' ({UNUSABLE[kinds[name]]})" for name in useless))
    _tell(told, known_after, "written after the decision")
    _tell(told, derived, "part of the target")
    if named and beside:
        kinds_used = " and the ".join(KINDS[kind] for kind, names in rich.items() if names)
        told.append(f"not used beside the {kinds_used}: {listed(beside)}; name all inputs with --input to use them too")
    if not named:
        told.append("there is no free text among the columns: numbers, categories and dates are used")
    return rich if named else {"row": beside}


def _tell(told: list[str], names: Sequence[str], what: str) -> None:
    if len(names) == 1:
        told.append(f"not used: {names[0]} (it looks like it is {what}); pass --input to use it")
    elif names:
        told.append(f"not used: {', '.join(names)} (they look like they are {what}); pass --input to use them")


def _is_after(name: str) -> bool:
    """Return whether a column's name says that it is filled in when the decision has been taken."""
    words = words_of_name(name)
    return any(AFTER.fullmatch(word) for word in words) or any(pair in AFTER_PAIRS for pair in pairwise(words))


def _belongs(name: str, targets: Sequence[str]) -> bool:
    """Return whether a column is named after a target, such as `label_id` or `sentiment_confidence`."""
    words = words_of_name(name)
    starts = [words_of_name(target) for target in targets]
    return any(start and len(words) > len(start) and words[: len(start)] == start for start in starts)
