"""Answer: every row of a table, folder or archive with a pretrained model as it is, in constant memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart import modalities
from headstart.core.blob import Blob
from headstart.core.dataset import is_blank, table_rows
from headstart.core.errors import DataError, MissingExtra, UsageError, listed, nearest
from headstart.core.files import atomic_file
from headstart.core.progress import Progress, Quiet
from headstart.core.source import ReadOptions, Table, TableWriter
from headstart.stages.files import folder_of, opened_files
from headstart.stages.kinds import SUFFIXES, kind_of
from headstart.stages.read import describe, find_source, is_table, open_table, table_writer

TEXTS, FILES = 1024, 256
"""Rows read, answered and written at a time."""
NOT_READ = ("constant", "empty", "number", "date")
"""Kinds of columns that are no texts, where a table has no column of texts proper."""
QUESTION, CONTEXT = "question", "context"
VECTORS = ".npy"
Run = Callable[[Sequence[Any]], list[dict[str, Any]]]


def write_answers(chunks: Iterator[Table], out: Any, task: str, progress: Progress) -> int:
    """Write rows with their answers, and return how many there were.

    Args:
        chunks: what `answered` gives.
        out: a table's name; or a .npy file, which takes the vectors (n, width) alone, NaN where there is none.

    Raises:
        UsageError: nothing is written under such a name.
    """
    vectors = isinstance(out, (str, os.PathLike)) and str(out).lower().endswith(VECTORS)
    if vectors and task != "embed":
        raise UsageError(
            f"'{out}' holds vectors, and this task gives none.", hint="Add --task embed, or write a table."
        )
    opened: AbstractContextManager[TableWriter] = _vectors(Path(out)) if vectors else table_writer(out)
    count = 0
    with opened as writer, progress.bar("answering", 0) as bar:
        for table in chunks:
            writer.write(table)
            count += table_rows(table)
            bar.advance(table_rows(table))
    return count


@final
class Answers:
    """The rows of a table with a model's answers, and what could not be read.

    Args:
        modality: what the model reads, such as `image`.
        run: answers a batch of inputs; raises DataError where one of them cannot be read.
        asks: whether the model answers questions about a text of their own, in a column `context`.
        usual: the column that is read where none is named and the table has it; those behind it follow its text.
    """

    def __init__(self, modality: str, run: Run, asks: bool = False, usual: Sequence[str] = ()) -> None:
        self.modality, self.run, self.asks, self.usual = modality, run, asks, usual
        self.unread: dict[str, str] = {}
        self.rows = 0
        self.first: DataError | None = None

    def chunks(self, source: Any, column: str, options: ReadOptions) -> Iterator[Table]:
        """Yield the table, its own columns first and the answers behind; rows that cannot be read have none.

        Raises:
            DataError: it has no such column, no one column to read, no rows, or none that can be read.
        """
        files = modalities.registry.get(self.modality).files
        names: list[str] = []
        waiting: list[tuple[Table, list[dict[str, Any] | None]]] = []
        for chunk in open_table(source, options, FILES if files else TEXTS):
            if not table_rows(chunk):
                continue
            column = column or self._usual(chunk) or chosen_column(chunk, self.modality, self.asks)
            _check(chunk, column)
            table = opened_files(chunk, [column], folder_of(source)) if files else chunk
            records = self._records(self._inputs(table, column))
            self.rows += len(records)
            names = names or list(dict.fromkeys(name for each in records if each for name in each))
            waiting.append((table, records))
            # What the answers' columns are is not known before there is one.
            if names:
                yield from (_beside(table, names, records) for table, records in waiting)
                waiting = []
        if self.first and waiting:
            raise self.first
        if not names:
            raise DataError(
                f"'{describe(source)}' has no rows to answer.", hint="Give a table with at least one filled row."
            )

    def _inputs(self, table: Table, column: str) -> list[Any]:
        cells = table[column]
        if self.asks and CONTEXT in table and column != CONTEXT:
            return [
                None if is_blank(question) else json.dumps({QUESTION: question, CONTEXT: context or ""})
                for question, context in zip(cells, table[CONTEXT], strict=True)
            ]
        if self.modality == "text":
            beside = [table[name] for name in self.usual[1:] if name in table and column == self.usual[0]]
            rows = zip(cells, *beside, strict=True)
            return [None if is_blank(row[0]) else "\n\n".join(_said(each) for each in row if not is_blank(each))
                    for row in rows]  # fmt: skip
        return cells

    def _usual(self, table: Table) -> str:
        return next((name for name in self.usual[:1] if name in table), "")

    def _records(self, inputs: list[Any]) -> list[dict[str, Any] | None]:
        places = [place for place, cell in enumerate(inputs) if not is_blank(cell)]
        found: list[dict[str, Any] | None] = [None] * len(inputs)
        for place, record in zip(places, self._halved([inputs[place] for place in places]), strict=True):
            found[place] = record
        return found

    def _halved(self, inputs: Sequence[Any]) -> list[dict[str, Any] | None]:
        """Answer all inputs, and where one cannot be read, each half on its own."""
        if not inputs:
            return []
        try:
            return [
                {name: value for name, value in each.items() if not name.startswith("_")} for each in self.run(inputs)
            ]
        except DataError as error:
            if len(inputs) > 1:
                middle = len(inputs) // 2
                return [*self._halved(inputs[:middle]), *self._halved(inputs[middle:])]
            self.first = self.first or error
            self.unread[str(inputs[0])[:80]] = error.problem
            return [None]

    def told(self) -> str:
        """Return what is to be said of rows without an answer, or an empty text."""
        if not self.unread:
            return ""
        some = " ".join(list(self.unread.values())[:3])
        return f"{len(self.unread):,} of {self.rows:,} rows cannot be read and have no answer: {some}"


def is_rows(given: str, modality: str) -> bool:
    """Return whether an input is a table, a folder or an archive, not one input of the model's own kind."""
    own = SUFFIXES.get(modality, ())
    if modality == "noise" or given == "-" or (own and given.lower().endswith(own) and not os.path.isdir(given)):
        return False
    try:
        return is_table(given) and find_source(given) is not None
    except MissingExtra:
        return True
    except (UsageError, DataError):
        return False


def chosen_column(table: Table, modality: str, asks: bool = False) -> str:
    """Return the one column of a table that a model reads.

    Raises:
        DataError: there is none, or there are several.
    """
    if asks and QUESTION in table:
        return QUESTION
    kinds = {name: kind_of(name, cells) for name, cells in table.items()}
    found = [name for name, kind in kinds.items() if kind == modality]
    # A folder's files stand beside their names.
    found = [name for name in found if isinstance(table[name][0], Blob)] or found
    if not found and modality == "text":
        found = [name for name, kind in kinds.items() if kind not in (*NOT_READ, "image", "audio")]
    if not found and len(table) == 1 and modality == "text":
        found = [name for name, kind in kinds.items() if kind not in ("image", "audio")]
    if len(found) == 1:
        return found[0]
    files = {"image": "pictures", "audio": "recordings"}.get(modality, "texts")
    raise DataError(
        f"{len(found)} columns hold {files}: {listed(found)}." if found else f"No column of the table holds {files}.",
        allowed=f"Its columns: {listed(table)}.",
        hint="Name the one to read with --column NAME.",
    )


def _said(cell: Any) -> str:
    """Return a cell as text; a conversation as JSON."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, (list, dict)) else str(cell)


def _check(table: Table, column: str) -> None:
    if column not in table:
        raise DataError(
            f"The table has no column '{column}'.",
            allowed=f"Its columns: {listed(table)}.",
            hint=nearest(column, table),
        )


def _beside(table: Table, names: Sequence[str], records: Sequence[Mapping[str, Any] | None]) -> Table:
    """Return a table with the answers behind; its own columns of the same names are called `NAME_given`."""
    kept = {f"{name}_given" if name in names else name: cells for name, cells in table.items()}
    if len(kept) != len(table) or any(name in kept for name in names):
        raise DataError(
            f"The table has columns that the answers would overwrite: {listed(names)}.",
            hint="Rename them, or leave them out of the table.",
        )
    plain = {name: [str(cell) if isinstance(cell, Blob) else cell for cell in cells] for name, cells in kept.items()}
    return plain | {name: [each.get(name) if each else None for each in records] for name in names}


@final
class _VectorWriter(TableWriter):
    """A .npy file that grows: its head, which says how many rows there are, is written again at the end."""

    def __init__(self, file: Any) -> None:
        self.file, self.rows, self.width = file, 0, 0

    def write(self, table: Table) -> None:
        """Append the vectors of a table."""
        vectors = table["embedding"]
        if not self.width:
            self.width = next(len(each) for each in vectors if each is not None)
            self.head()
        none = [np.nan] * self.width
        self.file.write(np.array([each or none for each in vectors], "<f4").tobytes())
        self.rows += len(vectors)

    def head(self) -> None:
        """Write the head; NumPy leaves room in it for the number of rows to grow."""
        self.file.seek(0)
        told = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self.width)}
        np.lib.format.write_array_header_1_0(self.file, told)


@contextmanager
def _vectors(out: Path) -> Iterator[TableWriter]:
    with atomic_file(out) as part, part.open("wb") as file:
        writer = _VectorWriter(file)
        yield writer
        writer.head()


def answer_table(
    answers: Answers,
    source: Any,
    out: Any,
    task: str,
    *,
    column: str = "",
    options: ReadOptions = ReadOptions(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> int:
    """Answer every row of a table and write the rows with their answers; return how many there were.

    Raises:
        DataError: it cannot be read, or has no one column that the model reads.
    """
    progress = progress or Quiet()
    count = write_answers(answers.chunks(source, column, options), out, task, progress)
    if answers.unread:
        progress.say(answers.told())
    return count
