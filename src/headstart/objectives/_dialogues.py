"""What a table of questions and answers, instructions, prompts, conversations or texts says, row by row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headstart.core.dataset import as_text
from headstart.core.errors import DataError, listed, nearest
from headstart.core.source import Table
from headstart.pipelines._chat import messages_of

TALKS = ("messages", "conversations", "conversation", "dialogue", "dialog")
PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("user", "assistant"),
    ("input", "output"),
)
PROMPTS = (("prompt", "completion"), ("prompt", "response"), ("prompt", "answer"))
TEXTS = ("text", "content", "body", "document", "sentence")
MORE = ("input", "context")
"""Columns that stand beside an instruction and belong to it."""
SYSTEM = "system"
WRITTEN = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
"""Other names of roles."""
ALLOWED = (
    "Columns that are known: instruction (and input) with output; question with answer; prompt with completion; "
    "messages, a list of role and content; or text alone."
)


@dataclass(frozen=True)
class Form:
    """How rows are to be read.

    Args:
        kind: `talk` (whole conversations), `pair` (what is asked, and the answer), `prompt` (a text that is continued
            as it stands), or `text` (nothing but text).
        read: the column that is read.
        target: the column that holds the answers; the same one for `talk` and `text`.
        more: a column whose cells follow what is asked, or an empty name.
        system: a column of what the assistant is told beforehand, or an empty name.
    """

    kind: str
    read: str
    target: str
    more: str = ""
    system: str = ""

    def told(self) -> dict[str, Any]:
        """Return the form as plain JSON data."""
        return asdict(self)


def form_of(table: Table, columns: Mapping[str, str]) -> Form:
    """Return how a table is to be read: by the columns that the user named, else by what its columns are called.

    Raises:
        DataError: a named column is missing, or no column is known.
    """
    named = {key: name for key, name in columns.items() if name}
    for name in named.values():
        if name not in table:
            raise DataError(
                f"There is no column '{name}'.", allowed=f"Columns: {listed(table)}.", hint=nearest(name, table)
            )
    if "input" in named and "target" in named:
        return Form("pair", named["input"], named["target"], *_beside(table, set(named.values()), named["input"]))
    lowered = {name.strip().casefold(): name for name in reversed(table)}
    if "input" in named:
        kind = "talk" if _is_talk(table[named["input"]]) else "text"
        return Form(kind, named["input"], named["input"])
    found = _recognised(table, lowered)
    if found is None or ("target" in named and found.target != named["target"]):
        raise DataError(
            f"It is not known which column is read and which holds the answers: {listed(table)}.",
            allowed=ALLOWED,
            hint="Name them: --input COLUMN --target COLUMN",
        )
    return found


def _recognised(table: Table, lowered: Mapping[str, str]) -> Form | None:
    for name in TALKS:
        if name in lowered and _is_talk(table[lowered[name]]):
            return Form("talk", lowered[name], lowered[name])
    for kind, pairs in (("pair", PAIRS), ("prompt", PROMPTS)):
        for read, target in pairs:
            if read in lowered and target in lowered:
                own = lowered[read], lowered[target]
                beside = _beside(table, set(own), own[0]) if kind == "pair" else ()
                return Form(kind, *own, *beside)
    for name in TEXTS:
        if name in lowered:
            return Form("text", lowered[name], lowered[name])
    return Form("text", *[next(iter(table))] * 2) if len(table) == 1 else None


def _beside(table: Table, taken: set[str], read: str) -> tuple[str, str]:
    """Return the columns of further input and of the system's words, where there are some."""
    free = {name.strip().casefold(): name for name in reversed(table) if name not in taken}
    more = next((free[name] for name in MORE if name in free), "") if read.casefold() != "input" else ""
    return more, free.get(SYSTEM, "")


def _is_talk(cells: Sequence[Any]) -> bool:
    first = next((cell for cell in cells if as_text(cell)), None)
    return isinstance(_parsed(first), list)


def _parsed(cell: Any) -> Any:
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except ValueError:
            return None
    return list(cell) if isinstance(cell, (list, tuple)) else None


def asked(form: Form, table: Table, row: int) -> Any:
    """Return what the pipeline is given for a row: a conversation, or a prompt.

    Raises:
        DataError: a conversation cannot be read.
    """
    if form.kind in ("prompt", "text"):
        return as_text(table[form.read][row])
    return conversation(form, table, row)[:-1]


def answer(form: Form, table: Table, row: int) -> str:
    """Return what is to be answered in a row; empty where there is no answer."""
    if form.kind == "talk":
        talk = conversation(form, table, row)
        return str(talk[-1]["content"]) if talk else ""
    return "" if form.kind == "text" else as_text(table[form.target][row])


def conversation(form: Form, table: Table, row: int) -> list[dict[str, Any]]:
    """Return a row as a conversation that ends with the assistant's words; empty where the assistant says nothing.

    Raises:
        DataError: it cannot be read; the sentence names the row.
    """
    if form.kind == "talk":
        return _talk(table[form.read][row], form.read, row)
    parts = [as_text(table[name][row]) for name in (form.read, form.more) if name]
    said = as_text(table[form.target][row])
    if not said or not parts[0]:
        return []
    system = as_text(table[form.system][row]) if form.system in table else ""
    before = [{"role": "system", "content": system}] if system else []
    user = {"role": "user", "content": "\n\n".join(part for part in parts if part)}
    return [*before, user, {"role": "assistant", "content": said}]


def _talk(cell: Any, column: str, row: int) -> list[dict[str, Any]]:
    given = _parsed(cell)
    if given is None:
        if not as_text(cell):
            return []
        raise DataError(
            f"Row {row + 1} of the column '{column}' is no conversation: {as_text(cell)[:60]}.",
            allowed='A list such as [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}].',
        )
    named = [_message(each) for each in given]
    try:
        messages = messages_of(named) if named else []
    except DataError as error:
        raise DataError(f"Row {row + 1}: {error.problem}", allowed=error.allowed) from error
    assert messages is not None
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    return messages


def _message(given: Any) -> Any:
    """Return a message with the names that chat templates know, where it is written with others."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return given
    if not isinstance(given, Mapping):
        return given
    role = given.get("role", given.get("from"))
    content = given.get("content", given.get("value"))
    if role is None or content is None:
        return given
    return {**given, "role": WRITTEN.get(str(role), role), "content": content}
