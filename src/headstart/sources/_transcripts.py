"""What is said in the recordings of a folder, where text files beside them tell it (no source itself)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from headstart.core.errors import DataError
from headstart.core.source import ReadOptions
from headstart.sources._files import reading
from headstart.sources._media import KINDS
from headstart.sources._text import TextFile

LISTS = ".trans.txt"
"""How a file ends that has a line for each recording of its folder, its name first, as LibriSpeech has them."""
LONGEST = 1 << 20
"""Bytes that the transcript of one recording may have."""


def transcripts(root: Path, files: Sequence[Path], options: ReadOptions) -> Mapping[str, str]:
    """Return what is said, by the path of each recording without its suffix; nothing where no file tells it.

    Told by `NAME.txt` beside `NAME.wav`, or by a list of lines in a file that ends in `.trans.txt`.

    Args:
        root: the folder.
        files: the paths of its files, relative to it.

    Raises:
        DataError: a file is no text, or too long.
    """
    spoken = {file.with_suffix("").as_posix() for file in files if file.suffix.lower() in KINDS["audio"]}
    found = {}
    for file in files:
        if file.name.lower().endswith(LISTS):
            for line in _text(root / file, options, LONGEST << 10).splitlines():
                name, _, text = line.strip().partition(" ")
                if (file.parent / name).as_posix() in spoken:
                    found[(file.parent / name).as_posix()] = text.strip()
        elif file.suffix.lower() == ".txt" and file.with_suffix("").as_posix() in spoken:
            found[file.with_suffix("").as_posix()] = " ".join(_text(root / file, options, LONGEST).split())
    return found


def _text(path: Path, options: ReadOptions, most: int) -> str:
    with reading(path):
        size = path.stat().st_size
    if size > most:
        raise DataError(f"'{path}' is longer than {most >> 20} MB.", hint="Is it a transcript?")
    if not size:
        return ""
    with TextFile.find(path, options).open(newline=None) as file:
        return file.read()
