"""Evaluate: judge a fitted model on a labelled table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.dataset import is_blank, table_rows, take_rows
from headstart.core.errors import DataError, UsageError, listed, nearest
from headstart.core.files import atomic_folder
from headstart.core.progress import Progress, Quiet
from headstart.core.source import ReadOptions, Table
from headstart.stages.exam import Exam
from headstart.stages.files import folder_of, opened_files, readable, renamed_file, unread
from headstart.stages.judge import judge
from headstart.stages.material import labelled
from headstart.stages.model import Model, open_model
from headstart.stages.pretrained import Pretrained
from headstart.stages.read import describe, read_table
from headstart.stages.report import write_report
from headstart.stages.report.taught import change
from headstart.stages.taught import taught_of

CHUNK = 8192


def evaluate(
    model: Model | Pretrained | Path | str,
    source: Any,
    *,
    target: str | Sequence[str] = (),
    out: Path | str | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a model on a labelled table and return the report.

    Args:
        model: an opened model, or a bundle's path.
        source: a table with the model's input columns and at least one of its targets.
        target: which targets to judge; all that the table has where empty.
        out: a folder to write report.json and report.html to.

    Raises:
        DataError: the table lacks the columns, or has no labels.
    """
    progress = progress or Quiet()
    model = open_model(model, progress) if isinstance(model, (str, Path)) else model
    if isinstance(model, Pretrained):
        if target:
            raise UsageError("A network that answers by itself has no targets.", hint="Leave --target out.")
        report = _of_network(model, source, options, progress)
    else:
        report = _of_targets(model, source, target, options, progress)
    if out:
        with atomic_folder(out) as part:
            write_report(part, report)
    return report


def _of_network(model: Pretrained, source: Any, options: ReadOptions, progress: Progress) -> dict[str, Any]:
    """Judge a network that answers by itself."""
    if model.bundle is None:
        raise UsageError(
            f"'{model.network.backbone.reference}' was not fitted: nothing says which column holds the answers.",
            hint=f"To judge it before and after tuning: headstart fit TABLE --task {model.task} --backbone REF",
        )
    objective = taught_of(model.bundle).objective
    table, notes, warnings = labelled(objective, model.network.backbone.modality, source, options)
    rows = table_rows(table)
    exam = Exam(objective, table, 0)
    report = {
        "kind": "evaluate",
        "task": model.task,
        "primary": objective.primary,
        "higher_is_better": objective.higher,
        "metrics": dict(exam.sat(model.network, model.session, progress).figures),
        "rows": rows,
        "bundle": str(model.path),
        "method": model.report.get("method"),
        "backbone": model.report.get("backbone"),
        "data": {
            "origin": describe(source),
            "rows": rows,
            "test_rows": rows,
            "notes": notes,
            "warnings": warnings,
        },
    }
    return report | {"verdict": change(report)}


def _of_targets(
    model: Model, source: Any, target: str | Sequence[str], options: ReadOptions, progress: Progress
) -> dict[str, Any]:
    table, notes = read_table(source, options)
    files = model.runtime.file_columns
    table = opened_files(renamed_file(table, files), files, folder_of(source))
    names = _targets(model, table, target)
    model.runtime.check_columns(table)
    kept, broken = readable(model.runtime.inputs, table)
    if broken and not len(kept):
        raise DataError(f"None of the {len(broken):,} files can be read: {broken[0]}")
    table = take_rows(table, kept) if broken else table
    warnings = [f"{len(broken):,} rows are left out {unread(broken)}"] if broken else []
    rows = table_rows(table)
    targets: dict[str, Any] = {}
    features = _features(model, table, progress)
    for name in names:
        labelled = np.array([row for row, cell in enumerate(table[name]) if not is_blank(cell)], np.int64)
        if not len(labelled):
            raise DataError(f"The column '{name}' is empty in every row: there is nothing to compare answers to.")
        each = model.runtime.targets[name]
        y = each.task.encode([table[name][row] for row in labelled])
        targets[name] = judge(each, {key: value[labelled] for key, value in features.items()}, y)
    return {
        "kind": "evaluate",
        "rows": rows,
        "bundle": str(model.path),
        "method": model.report.get("method"),
        "backbone": model.report.get("backbone"),
        "data": {"origin": describe(source), "rows": rows, "test_rows": rows, "notes": notes, "warnings": warnings},
        "targets": targets,
    }


def _targets(model: Model, table: Table, target: str | Sequence[str]) -> list[str]:
    known = list(model.runtime.targets)
    wanted = [each.strip() for each in target.split(",")] if isinstance(target, str) and target else list(target)
    for name in wanted:
        if name not in known:
            raise DataError(
                f"The model does not predict '{name}'.", allowed=f"Targets: {listed(known)}.", hint=nearest(name, known)
            )
        if name not in table:
            raise DataError(
                f"The table has no column '{name}'.", allowed=f"Columns: {listed(table)}.", hint=nearest(name, table)
            )
    found = wanted or [name for name in known if name in table]
    if not found:
        raise DataError(
            f"The table has none of the model's targets: {listed(known)}.",
            allowed=f"Columns: {listed(table)}.",
            hint="Give a table with the right answers in it; without them, use: headstart predict",
        )
    return found


def _features(model: Model, table: Table, progress: Progress) -> dict[str, np.ndarray]:
    rows = table_rows(table)
    parts = []
    with progress.bar("answering", rows) as bar:
        for start in range(0, rows, CHUNK):
            chunk = take_rows(table, range(start, min(start + CHUNK, rows)))
            parts.append(model.runtime.features(chunk, baseline=True))
            bar.advance(table_rows(chunk))
    if not parts:
        raise DataError("The table has no rows: there is nothing to judge on.")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
