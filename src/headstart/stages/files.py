"""Cells that name files: from what a table says to what can be opened."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from headstart import modalities
from headstart.core.blob import Blob
from headstart.core.dataset import Dataset, is_blank, table_rows
from headstart.core.modality import Modality
from headstart.core.source import Table
from headstart.stages.kinds import kind_of_files

SAMPLE = 20
"""Files that are looked for to find out which folder they are in."""
SPARE = 2 << 30
"""Bytes of the disk that stay free when fetched files are kept."""


def is_file(modality: str) -> bool:
    """Return whether the cells of a modality are files."""
    return modalities.registry.get(modality).files


def folder_of(source: Any) -> Path:
    """Return the folder that relative names in a table count from: the table's own, else the current one."""
    if isinstance(source, (str, os.PathLike)) and os.path.exists(os.path.expanduser(source)):
        path = Path(source).expanduser()
        return path if path.is_dir() else path.parent
    return Path()


def with_files(dataset: Dataset, source: Any) -> Dataset:
    """Return the data set with the names in its columns of pictures and recordings turned into Blobs."""
    columns = [name for modality, names in dataset.inputs.items() if is_file(modality) for name in names]
    return replace(dataset, table=opened_files(dataset.table, columns, folder_of(source))) if columns else dataset


def opened_files(table: Table, columns: Sequence[str], folder: Path) -> Table:
    """Return a table with the names in some columns turned into Blobs; they count from `folder`.

    Where none of the first files is there, but all are in one folder below it, they count from that one.
    """
    found = {}
    for name in columns:
        if name in table:
            place = _place(table[name], folder)
            found[name] = [as_blob(cell, place) for cell in table[name]]
    return {**table, **found} if found else table


def _place(cells: Sequence[Any], folder: Path) -> Path:
    some = [cell for cell in cells[:SAMPLE] if isinstance(cell, str) and not is_blank(cell) and ":" not in cell]
    if not some or not folder.is_dir() or any((folder / cell).exists() for cell in some):
        return folder
    below = [each for each in sorted(folder.iterdir()) if each.is_dir()]
    return next((each for each in below if all((each / cell).exists() for cell in some)), folder)


def as_blob(cell: Any, folder: Path = Path()) -> Any:
    """Return a path or URL as a Blob that is read when it is needed, anything else as it is."""
    if isinstance(cell, os.PathLike):
        cell = os.fspath(cell)
    if not isinstance(cell, str) or is_blank(cell) or cell.startswith("data:"):
        return cell
    if cell.startswith(("http://", "https://")):
        return Blob(cell, lambda: _fetched(cell))
    return Blob.of_file(folder / Path(cell).expanduser(), cell)


def _fetched(url: str) -> bytes:
    """Return what is at a URL; it is fetched once, though a fit reads its pictures several times."""
    from headstart.core.download import fetch_bytes

    folder = Path(_kept().name)
    place = folder / hashlib.sha256(url.encode()).hexdigest()
    if place.is_file():
        return place.read_bytes()
    content = fetch_bytes(url)
    # Where there is no room for it, it is fetched again.
    with contextlib.suppress(OSError):
        if shutil.disk_usage(folder).free > SPARE + len(content):
            part = place.with_suffix(f".{threading.get_ident()}")
            part.write_bytes(content)
            os.replace(part, place)
    return content


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    """Return the folder of what was fetched, which goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="headstart-")


def renamed_file(table: Table, columns: Sequence[str]) -> Table:
    """Return a table whose one column of files is called what the model calls its own, where that one is missing."""
    if len(columns) != 1 or columns[0] in table:
        return table
    found = [name for name, cells in table.items() if kind_of_files(cells[:100])]
    # A folder gives the files, and beside them their names.
    opened = [name for name in found if not isinstance(next(each for each in table[name] if not is_blank(each)), str)]
    found = opened or found
    return (
        {columns[0] if name == found[0] else name: cells for name, cells in table.items()} if len(found) == 1 else table
    )


def is_single_file(reference: str, columns: Sequence[str]) -> bool:
    """Return whether a model with these columns of files is given one picture or recording that is there."""
    return bool(columns) and os.path.isfile(os.path.expanduser(reference)) and bool(kind_of_files([reference]))


def readable(inputs: Sequence[Modality], table: Table) -> tuple[np.ndarray, list[str]]:
    """Return the numbers of the rows whose files can be read, (n,), and what is wrong with the others."""
    broken: dict[int, str] = {}
    for modality in inputs:
        if modality.files:
            for name in modality.columns:
                cells = table.get(name, [])
                broken |= {row: f"Row {row + 1} has no file." for row, cell in enumerate(cells) if is_blank(cell)}
            broken |= modality.unreadable(table)
    return np.array([row for row in range(table_rows(table)) if row not in broken], np.int64), list(broken.values())


def unread(reasons: Sequence[str]) -> str:
    """Return how many files cannot be read and what is wrong with the first, as the end of a sentence."""
    more = f" And {len(reasons) - 5:,} more." if len(reasons) > 5 else ""
    return f"because their file cannot be read: {' '.join(reasons[:5])}{more}"


def open_rows(rows: Sequence[Any], main: str, columns: Sequence[str]) -> list[Any]:
    """Return rows as Python users give them, with the paths in columns of files turned into Blobs."""
    if not columns:
        return list(rows)
    return [
        {name: as_blob(cell) if name in columns else cell for name, cell in row.items()}
        if isinstance(row, Mapping)
        else ({main: as_blob(row)} if main in columns else row)
        for row in rows
    ]
