"""Read and write tables: finds the source that a path, URL or frame belongs to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

from headstart.core.dataset import table_rows
from headstart.core.errors import DataError, HeadstartError, MissingExtra, UsageError
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources import registry
from headstart.sources._cells import named_files
from headstart.sources._files import existing, shown

INSTEAD = {
    ".xlsx": "Save it as 'CSV UTF-8' from the spreadsheet program.",
    ".xls": "Save it as 'CSV UTF-8' from the spreadsheet program.",
    ".txt": "Rename it to .csv if it is a table, or give the folder that it lies in.",
}


@cache
def _names() -> tuple[str, ...]:
    return tuple(registry.names())


@cache
def _source(name: str) -> Source:
    return registry.get(name)()


def _sources() -> Iterator[tuple[str, Source | MissingExtra]]:
    """Yield every source, or what it lacks; each file is imported only when its turn comes."""
    for name in _names():
        try:
            yield name, _source(name)
        except MissingExtra as error:
            yield name, error


def find_source(reference: Any, writing: bool = False) -> Source:
    """Return the source that reads, or writes, `reference`.

    Raises:
        UsageError: no source does; the sentence lists what can be read or written.
        DataError: it looks like a path, and nothing is there.
        MissingExtra: the source that is named like its suffix lacks a package.
    """
    lacking: dict[str, MissingExtra] = {}
    for name, source in _sources():
        if isinstance(source, MissingExtra):
            lacking[name] = source
        elif source.claims(reference):
            return source
    suffix = Path(reference).suffix.lower() if isinstance(reference, (str, os.PathLike)) else ""
    raise lacking.get(suffix[1:]) or _unclaimed(reference, suffix, writing)


def _unclaimed(reference: Any, suffix: str, writing: bool) -> HeadstartError:
    """Return the error for what no source knows."""
    known = [source for _, source in _sources() if isinstance(source, Source)]
    if writing:
        kinds = "; ".join(source.writes for source in known if source.writes)
        return UsageError(
            f"{shown(reference)} is no kind of table that can be written.", allowed=f"Written are: {kinds}."
        )
    kinds = "; ".join(source.reads for source in known)
    hint = INSTEAD.get(suffix, "")
    if isinstance(reference, (str, os.PathLike)):
        if "://" in str(reference):
            hint = "Download it first, and give the file's name."
        elif not os.path.exists(Path(reference).expanduser()):
            try:
                existing(reference)
            except DataError as error:
                return DataError(error.problem, allowed=f"Tables are: {kinds}.", hint=error.hint)
    return UsageError(
        f"{shown(reference)} is no kind of table that can be read.", allowed=f"Read are: {kinds}.", hint=hint
    )


def open_table(reference: Any, options: ReadOptions = ReadOptions(), rows: int = 8192) -> Iterator[Table]:  # noqa: B008
    """Yield a table as chunks of at most `rows` rows, in constant memory; the first comes even without rows.

    Args:
        reference: a path, `URL::TABLE`, `URL::SELECT …`, or a frame.

    Raises:
        UsageError: nothing reads such a reference; the sentence lists what can be read.
        DataError: what is there cannot be read; the sentence names the line.
    """
    return named_files(find_source(reference).chunks(reference, options, rows))


def read_table(
    reference: Any,
    options: ReadOptions = ReadOptions(),  # noqa: B008  (frozen)
    limit: int | None = None,
) -> tuple[Table, list[str]]:
    """Return a whole table, or its first `limit` rows, and what was found out while reading it.

    Raises:
        UsageError, DataError: as for `open_table`.
    """
    source, table = find_source(reference), Table()
    for chunk in named_files(source.chunks(reference, options, min(8192, limit or 8192))):
        if not table:
            table = {name: list(cells) for name, cells in chunk.items()}
        else:
            for name, cells in chunk.items():
                table[name] += cells
        if limit is not None and table_rows(table) >= limit:
            table = {name: cells[:limit] for name, cells in table.items()}
            break
    return table, [f"{name}: {found}" for name, found in source.notes(reference, options).items()]


def table_writer(reference: Any) -> AbstractContextManager[TableWriter]:
    """Open a table for writing; it appears when the block ends well, whole, and else not at all.

    Raises:
        UsageError: nothing writes such a reference; the sentence lists what can be written.
    """
    return find_source(reference, writing=True).writer(reference)


def is_table(reference: Any) -> bool:
    """Return whether `reference` is meant as a table, not as a text: a frame, a path, or a database's URL.

    A path that is not there yet counts where it is one word with a known suffix, so that a mistyped file
    name is told rather than answered as a text.

    >>> is_table("sqlite:///tickets.db::tickets"), is_table("My order has not arrived.")
    (True, False)
    """
    if not isinstance(reference, str):
        return isinstance(reference, os.PathLike) or _claimed(reference)
    if os.path.exists(reference):
        return True
    words = reference.split(maxsplit=1)
    return bool(words) and (len(words) == 1 or "://" in words[0]) and _claimed(reference)


def _claimed(reference: Any) -> bool:
    return any(isinstance(source, Source) and source.claims(reference) for _, source in _sources())


def describe(reference: Any) -> str:
    """Return a reference as it may stand in a report: without passwords, a frame by its type.

    >>> describe("postgresql://me:secret@host/db::tickets")
    'postgresql://me:***@host/db::tickets'
    """
    return shown(reference).strip("'")


def table_name(reference: Any) -> str:
    """Return a short name for a table, fit for a file name: without folders, suffixes and passwords.

    >>> table_name("data/Tickets 2024.csv.gz"), table_name("sqlite:///a.db::tickets"), table_name([{"text": "Hi"}])
    ('Tickets_2024', 'tickets', 'table')
    """
    if not isinstance(reference, (str, os.PathLike)):
        return "table"
    name = str(reference)
    if "://" in name:
        name = name.rpartition("::")[2]
        name = "query" if " " in name.strip() else name
    name = Path(os.path.abspath(name)).name.partition(".")[0] or "table"
    return re.sub(r"\W+", "_", name).strip("_") or "table"
