"""A folder of texts, pictures or recordings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, final

from headstart.core.blob import Blob
from headstart.core.errors import DataError, UsageError, listed
from headstart.core.source import ReadOptions, Source, Table, TableWriter
from headstart.sources._boxes import layout
from headstart.sources._files import reading, shown
from headstart.sources._media import KINDS, kind_of_files, tables
from headstart.sources._text import TextFile
from headstart.sources._transcripts import transcripts

SUFFIXES = (".txt", ".text")
LONGEST = 10 << 20
"""Bytes that one file may have."""


@final
class Folder(Source):
    """A folder of texts (.txt), pictures or recordings, one row each, in the order of their names.

    Columns: `text`, `image` or `audio`; `file`, the path within the folder; and, where files lie in sub-folders,
    `label`, the name of the folder that a file lies in. What is said in recordings is read from texts of the same name
    (`a.wav`, `a.txt`) or from lists that end in `.trans.txt`, as `transcript`. Hidden files are left out.
    """

    reads = "a folder of .txt files, pictures or recordings"

    def claims(self, reference: Any) -> bool:
        """Return whether `reference` is a folder that no other source knows the layout of."""
        named = isinstance(reference, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(reference))
        return named and not layout(reference)

    def chunks(self, reference: Any, options: ReadOptions, rows: int) -> Iterator[Table]:
        """Yield one row for each file.

        Raises:
            DataError: there are no such files, or one of them is not text.
        """
        root = Path(reference).expanduser()
        every = _files(root)
        kind = kind_of_files([PurePosixPath(file) for file in every])
        if kind:
            blobs = [(PurePosixPath(file), Blob.of_file(root / file, file.as_posix())) for file in every]
            said = transcripts(root, every, options) if kind == "audio" else {}
            for part in tables(blobs, kind, rows):
                if said:
                    part["transcript"] = [said.get(str(PurePosixPath(file).with_suffix(""))) for file in part["file"]]
                yield part
            return
        files = [file for file in every if file.name.lower().endswith(SUFFIXES)]
        if not files:
            raise DataError(
                f"The folder {shown(reference)} holds no texts, pictures or recordings.",
                allowed=f"Files that end in {listed([*SUFFIXES, *KINDS['image'][:3], *KINDS['audio'][:3]])} and such "
                "are read, in sub-folders too.",
                hint=_instead(root),
            )
        labelled = any(len(file.parts) > 1 for file in files)
        for start in range(0, len(files), rows):
            some = files[start : start + rows]
            table: Table = {
                "text": [_text(root / file, options) for file in some],
                "file": [f.as_posix() for f in some],
            }
            if labelled:
                table["label"] = [file.parent.name or None for file in some]
            yield table

    def writer(self, reference: Any) -> AbstractContextManager[TableWriter]:
        """Raise UsageError: a folder is only read."""
        raise UsageError(
            f"{shown(reference)} is a folder; tables are written to files.", hint="Give a name such as out.csv."
        )


def _files(root: Path) -> list[Path]:
    """Return the files below a folder, relative to it and sorted."""
    found = []
    with reading(root):
        for folder, folders, names in os.walk(root, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            here = Path(folder).relative_to(root)
            found += [here / name for name in names if not name.startswith(".")]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _instead(root: Path) -> str:
    names = sorted(name for name in os.listdir(root) if not name.startswith("."))
    return f"It holds {listed(names, 6)}: name one of them." if names else "It is empty."


def _text(path: Path, options: ReadOptions) -> str:
    with reading(path):
        size = path.stat().st_size
    if size == 0:
        return ""
    if size > LONGEST:
        raise DataError(f"'{path}' is longer than {LONGEST >> 20} MB.", allowed=f"A text may have {LONGEST >> 20} MB.")
    with TextFile.find(path, options).open(newline=None) as file:
        return file.read()
