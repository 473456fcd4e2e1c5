"""Predict: rows in, rows with answers out, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from headstart.core.blob import Blob
from headstart.core.dataset import table_rows, take_rows
from headstart.core.errors import DataError, listed
from headstart.core.progress import Progress, Quiet
from headstart.core.source import ReadOptions, Table
from headstart.runtime import Runtime
from headstart.stages.files import folder_of, opened_files, readable, renamed_file, unread
from headstart.stages.model import Model, open_model
from headstart.stages.pretrained import Pretrained
from headstart.stages.read import open_table, table_writer

CHUNK = 4096
"""Rows read, answered and written at a time."""
FILES = 512
"""The same where rows hold files."""


def predict(
    model: Model | Pretrained | Path | str,
    source: Any,
    *,
    out: Any,
    options: ReadOptions = ReadOptions(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> int:
    """Answer every row of a table and write the rows with their answers; return how many there were.

    Args:
        model: an opened model, or a bundle's path.
        source: a table with the model's input columns; others are carried along.
        out: where to write: a file whose suffix names its format, or an SQL reference.

    Raises:
        DataError: an input column is missing; nothing is written.
    """
    progress = progress or Quiet()
    model = open_model(model, progress) if isinstance(model, (str, Path)) else model
    if isinstance(model, Pretrained):
        return model.predict_table(source, out=out, read=options, progress=progress)
    count = 0
    with table_writer(out) as writer, progress.bar("answering", 0) as bar:
        rows = FILES if model.runtime.file_columns else CHUNK
        for table in answered(model, open_table(source, options, rows), folder_of(source), progress):
            writer.write(table)
            count += table_rows(table)
            bar.advance(table_rows(table))
    return count


def answered(
    model: Model, chunks: Iterable[Table], folder: Path = Path(), progress: Progress | None = None
) -> Iterator[Table]:
    """Yield each chunk with the answer columns added; names of files count from `folder`.

    Where a row's file cannot be read its answers are missing, which `progress` is told.

    Raises:
        DataError: the table already has a column of an answer's name, other than the targets' own.
    """
    files = model.runtime.file_columns
    opened = (opened_files(renamed_file(chunk, files), files, folder) for chunk in chunks)
    for number, table in enumerate(opened):
        answers = _answers(model.runtime, table, number == 0, progress or Quiet())
        taken = [name for name in answers if name in table and name not in model.runtime.targets]
        if taken:
            raise DataError(
                f"The table already has the columns {listed(taken)}, which the answers would overwrite.",
                hint="Rename them, or leave them out of the table.",
            )
        # A table that holds the true target keeps it beside the answer.
        truths = {f"{name}_given": table[name] for name in answers if name in table}
        kept = {name: cells for name, cells in table.items() if name not in answers}
        yield (
            {name: [str(c) if isinstance(c, Blob) else c for c in cells] for name, cells in kept.items()}
            | truths
            | answers
        )


def _answers(runtime: Runtime, table: Table, first: bool, progress: Progress) -> Table:
    try:
        return runtime.predict(table)
    except DataError:
        rows, reasons = readable(runtime.inputs, table)
        if not reasons or (first and not len(rows)):
            raise
    progress.say(f"{len(reasons):,} rows have no answer {unread(reasons)}")
    some = runtime.predict(take_rows(table, rows))
    answers: Table = {name: [None] * table_rows(table) for name in some}
    for name, cells in some.items():
        for row, cell in zip(rows, cells, strict=True):
            answers[name][row] = cell
    return answers


def lines(stream: TextIO, rows: int) -> Iterator[list[str]]:
    """Yield the non-blank lines of a stream in lists of at most `rows`, as soon as they are there."""
    some: list[str] = []
    for line in stream:
        if line.strip():
            some.append(line.rstrip("\r\n"))
        if len(some) == rows:
            yield some
            some = []
    if some:
        yield some
