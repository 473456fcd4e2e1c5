"""Read a user's questions and answers: a table, Markdown with headings, or text files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.core.dataset import as_text, table_rows
from headstart.core.errors import DataError
from headstart.core.source import ReadOptions, Table
from headstart.objectives._dialogues import Form, answer, conversation, form_of
from headstart.stages.read import describe, read_table

MARKDOWN, PLAIN = (".md", ".markdown"), (".txt", ".text")
HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*")
FENCE = re.compile(r"\s*(```|~~~)")
ASKED = re.compile(r"(?:q|question|frage|f)\s*[:.)]\s*(.+)", re.IGNORECASE)
ANSWERED = re.compile(r"(?:a|answer|antwort)\s*[:.)]\s*(.*)", re.IGNORECASE)
LONGEST = 1200
"""Characters of a passage; longer ones are parted between paragraphs."""
LARGEST = 20 << 20
"""Bytes of one text file that is read."""
NAMED = {"input": ("frage", "title", "titel"), "target": ("antwort", "reply", "solution")}
"""More names of columns, for what is asked and what is answered."""


@dataclass(frozen=True)
class Entry:
    """One answer that the user has.

    Args:
        questions: ways to ask for it; empty for a passage of a text.
        answer: what is said.
        place: where it stands, such as `faq.csv, row 3`.
        context: the headings above it.
    """

    questions: tuple[str, ...]
    answer: str
    place: str
    context: str = ""

    @property
    def title(self) -> str:
        """Its first question, or how its passage begins."""
        return self.questions[0] if self.questions else self.answer[:60].partition("\n")[0]


def read_faq(source: Any, columns: Mapping[str, str], options: ReadOptions) -> list[Entry]:
    """Return the entries of a file or folder; questions with the same answer are ways to ask for one entry.

    Args:
        source: a table, a .md or .txt file, or a folder of such files.
        columns: `input` and `target`, where the user named them.

    Raises:
        DataError: there is nothing to answer with; the sentence says what is read.
    """
    path = Path(os.fspath(source)).expanduser() if isinstance(source, (str, os.PathLike)) else None
    if path is not None and path.is_dir():
        files = [each for each in sorted(path.rglob("*")) if _is_text(each) and not _hidden(each, path)]
        entries = [entry for file in files for entry in _entries(file, str(file.relative_to(path)))]
    elif path is not None and _is_text(path):
        entries = list(_entries(path, path.name))
    else:
        table, _ = read_table(source, options)
        entries = list(_rows(table, _form(table, columns), describe(source).rpartition("/")[2]))
    found = _together(entries)
    if not found:
        raise DataError(
            f"There is nothing to answer with in '{describe(source)}'.",
            allowed="A table with questions and answers, Markdown with headings, text files, or a folder of them.",
        )
    return found


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in (*MARKDOWN, *PLAIN) and path.is_file()


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _form(table: Table, columns: Mapping[str, str]) -> Form:
    lowered = {name.strip().casefold(): name for name in reversed(table)}
    more = {
        key: next((lowered[name] for name in names if name in lowered), "")
        for key, names in NAMED.items()
        if not columns.get(key)
    }
    try:
        return form_of(table, columns)
    except DataError:
        both = {**more, **{key: name for key, name in columns.items() if name}}
        if not (both.get("input") and both.get("target")):
            raise
        return form_of(table, both)


def _rows(table: Table, form: Form, name: str) -> Iterator[Entry]:
    for row in range(table_rows(table)):
        place = f"{name}, row {row + 1}"
        if form.kind == "text":
            yield from (Entry((), part, place) for part in _parted(as_text(table[form.read][row])))
            continue
        cell = table[form.read][row] if form.kind != "talk" else None
        if isinstance(cell, (list, tuple)):
            asked = tuple(as_text(each) for each in cell)
        elif form.kind == "prompt":
            asked = (as_text(cell),)
        else:
            asked = tuple(each["content"] for each in conversation(form, table, row)[:-1] if each["role"] == "user")[:1]
        yield Entry(tuple(each.strip() for each in asked if each.strip()), answer(form, table, row).strip(), place)


def _together(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that say something, one for each answer."""
    found: dict[str, Entry] = {}
    for each in entries:
        if not each.answer.strip():
            continue
        key = " ".join(each.answer.split())
        before = found.get(key)
        questions = dict.fromkeys([*(before.questions if before else ()), *each.questions])
        found[key] = replace(before or each, questions=tuple(questions))
    return list(found.values())


def _entries(file: Path, name: str) -> Iterator[Entry]:
    if file.stat().st_size > LARGEST:
        raise DataError(f"'{file}' has {file.stat().st_size:,} bytes.", allowed=f"At most {LARGEST:,} are read.")
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    if file.suffix.lower() in MARKDOWN:
        yield from _headed(lines, name, file.stem)
    elif any(ASKED.fullmatch(line.strip()) for line in lines):
        yield from _marked(lines, name)
    else:
        yield from (Entry((), part, name) for part in _parted("\n".join(lines)))


def _headed(lines: Sequence[str], name: str, stem: str) -> Iterator[Entry]:
    """Yield what stands below each heading."""
    above: list[tuple[int, str]] = []
    body: list[str] = []
    begun, code = 1, False

    def entries() -> Iterator[Entry]:
        titles = [title for _, title in above] or [stem.replace("_", " ").replace("-", " ")]
        for part in _parted("\n".join(body)):
            yield Entry((titles[-1],), part, f"{name}, line {begun}", " \N{EN DASH} ".join(titles[:-1]))

    for number, line in enumerate(lines, start=1):
        code ^= bool(FENCE.match(line))
        heading = None if code else HEADING.fullmatch(line.strip())
        if heading is None:
            body.append(line)
            continue
        yield from entries()
        depth = len(heading[1])
        above = [*(each for each in above if each[0] < depth), (depth, heading[2])]
        body, begun = [], number
    yield from entries()


def _marked(lines: Sequence[str], name: str) -> Iterator[Entry]:
    """Yield the entries of a text whose questions begin with `Q:` and whose answers begin with `A:`."""
    asked: list[str] = []
    said: list[str] = []
    begun = 1
    for number, line in enumerate([*lines, "Q: end"], start=1):
        question, reply = ASKED.fullmatch(line.strip()), ANSWERED.fullmatch(line.strip())
        if question:
            if said:
                yield Entry(tuple(asked), "\n".join(said).strip(), f"{name}, line {begun}")
                asked, said = [], []
            begun = begun if asked else number
            asked.append(question[1].strip())
        elif reply and asked and not said:
            said.append(reply[1])
        elif said:
            said.append(line)


def _parted(text: str) -> Iterator[str]:
    """Yield a text's paragraphs, as many together as make up one passage."""
    held = ""
    for part in re.split(r"\n\s*\n", text.strip()):
        if held and len(held) + len(part) > LONGEST:
            yield held
            held = ""
        held = f"{held}\n\n{part}".strip() if held else part.strip()
        while len(held) > 2 * LONGEST:
            cut = held.rfind(" ", LONGEST // 2, LONGEST)
            cut = cut if cut > 0 else LONGEST
            yield held[:cut].strip()
            held = held[cut:].strip()
    if held:
        yield held
