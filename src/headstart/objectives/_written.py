"""Conversations and texts as tokens to learn: the model's own chat template, and the answers alone weighted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from tokenizers import Tokenizer

from headstart.core.backbone import Network
from headstart.core.course import Examples
from headstart.core.dataset import as_text, table_rows
from headstart.core.source import Table
from headstart.objectives._dialogues import Form, conversation
from headstart.pipelines._chat import prompt
from headstart.pipelines._text import limit, plain, reader, settings, special

CONTEXT = 1024
"""Tokens of one row at the most; a network may read more, at a price that grows faster than the text."""
PLAIN = (
    "{%- if bos_token is defined and (eos_token is not defined or bos_token != eos_token) %}{{ bos_token }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '### ' + message['role'] | capitalize + ':\n' + message['content'] | trim }}"
    "{%- if message['role'] == 'assistant' and eos_token is defined %}{{- eos_token }}{%- endif %}"
    "{{- '\n\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '### Assistant:\n' }}{%- endif %}"
)
"""The chat template of a model that brings none."""


@dataclass(frozen=True)
class Line:
    """One row to learn: its tokens, their weights, and how many bytes of text are learnt."""

    ids: np.ndarray
    weights: np.ndarray
    learnt: int


NOTHING = Line(np.zeros(1, np.int32), np.zeros(1, np.float32), 0)
"""What stands for a row that teaches nothing."""


@final
class Written(Examples):
    """Rows of `ids` (flat), `lengths` (n,) and `weights` (flat): 1 where a token is to be learnt.

    Args:
        lines: for each row its parts, one in each epoch, in turn; empty where there is nothing to learn.
        notes: what is to be known of how they were made.
    """

    def __init__(self, lines: Sequence[Sequence[Line]], notes: Sequence[str]) -> None:
        self.lines, self.notes = lines, notes

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each row's longest part (n,)."""
        return np.array([max((len(part.ids) for part in parts), default=1) for parts in self.lines], np.int64)

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return some rows; a long text's next part comes with the next epoch."""
        some = [self.lines[row] or (NOTHING,) for row in rows.tolist()]
        return joined([parts[(epoch or 0) % len(parts)] for parts in some])


def joined(lines: Sequence[Line]) -> dict[str, np.ndarray]:
    """Return lines as flat arrays."""
    lengths = np.array([len(each.ids) for each in lines], np.int32)
    none = np.zeros(0, np.int32)
    return {
        "ids": np.concatenate([each.ids for each in lines]) if lines else none,
        "lengths": lengths,
        "weights": np.concatenate([each.weights for each in lines]) if lines else none.astype(np.float32),
    }


def written(network: Network, form: Form, table: Table) -> Written:
    """Return a table's rows as a network reads them.

    Raises:
        DataError: a conversation cannot be read, or the network's chat template refuses it.
    """
    scribe = Scribe(network)
    lines = [scribe.row(form, table, row) for row in range(table_rows(table))]
    return Written(lines, scribe.notes(form))


class Scribe:
    """Turns rows into lines for one network, and counts what it had to cut.

    Args:
        network: whose tokenizer and chat template are used.
        context: tokens of a line at the most; 0 leaves it to the network.
    """

    def __init__(self, network: Network, context: int = 0) -> None:
        self.network, self.tokenizer = network, reader(network)
        self.context = min(context or CONTEXT, limit(network))
        self.twofold = bool(network.config.get("is_encoder_decoder"))
        self.ends = ends(network, self.tokenizer)
        self.rows = self.cut = self.long = self.nothing = 0

    def row(self, form: Form, table: Table, row: int) -> list[Line]:
        """Return a row's lines: one, several of a long text, or none where there is nothing to learn."""
        self.rows += 1
        if form.kind == "text":
            return self._text(plain(as_text(table[form.read][row])))
        if form.kind == "prompt":
            before, after = (plain(as_text(table[name][row])) for name in (form.read, form.target))
            made = self._line(before + _gap(before, after) + after, [(len(before), None)], False) if after else None
        else:
            made = self._conversation(conversation(form, table, row))
        if made is None:
            self.nothing += 1
        return [] if made is None else [made]

    def _text(self, text: str) -> list[Line]:
        encoding = self.tokenizer.encode(text, add_special_tokens=True)
        ids = self._ended(list(encoding.ids)) if text.strip() else []
        parts = [np.array(ids[at : at + self.context], np.int32) for at in range(0, len(ids), self.context)]
        parts = [part for part in parts if len(part) > 1]
        self.long += len(parts) > 1
        self.nothing += not parts
        size = len(text.encode()) // max(len(parts), 1)
        return [Line(part, np.ones(len(part), np.float32), size) for part in parts]

    def _conversation(self, messages: Sequence[Mapping[str, Any]]) -> Line | None:
        """Return a conversation as the chat template writes it; all that the assistant says is learnt."""
        if not messages:
            return None
        whole = prompt(self.network, messages, whole=True)
        spans = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = prompt(self.network, messages[:number])
            after = prompt(self.network, messages[: number + 1], whole=True)
            # Some templates leave out or rewrite what was said earlier; then the last answer alone is learnt.
            if whole.startswith(before) and whole.startswith(after):
                spans.append((len(before), len(after)))
        if not spans or self.twofold:
            before = prompt(self.network, messages[:-1])
            whole = whole if whole.startswith(before) else before + str(messages[-1]["content"]).strip()
            spans = [(len(before), len(whole))]
        return self._line(whole, list(spans), True)

    def _line(self, text: str, spans: Sequence[tuple[int, int | None]], whole: bool) -> Line | None:
        """Return a text of which some spans of characters are learnt; None where none of them is within reach."""
        if self.twofold:
            return self._two(text[: spans[-1][0]], text[spans[-1][0] :].strip(), whole)
        encoding = self.tokenizer.encode(text, add_special_tokens=not whole)
        ids, offsets = list(encoding.ids), np.array(encoding.offsets, np.int64).reshape(-1, 2)
        weights = np.zeros(len(ids), np.float32)
        for start, stop in spans:
            inside = (offsets[:, 1] > start) & (offsets[:, 0] < (len(text) if stop is None else stop))
            weights[inside & (offsets[:, 1] > offsets[:, 0])] = 1
        learnt = sum(len(text[start:stop].encode()) for start, stop in spans)
        if not any(token in self.ends for token in ids[_last(weights) :]) or not whole:
            ended = self._ended(ids)
            weights = np.append(weights, np.ones(len(ended) - len(ids), np.float32))
            weights[-1], ids = 1, ended
        return self._cut(ids, weights, learnt)

    def _cut(self, ids: list[int], weights: np.ndarray, learnt: int) -> Line | None:
        if len(ids) > self.context:
            self.cut += 1
            learnt = int(learnt * weights[: self.context].sum() / weights.sum())
            ids, weights = ids[: self.context], weights[: self.context]
        # Nothing stands before the first token, so it is never learnt.
        return Line(np.array(ids, np.int32), weights, learnt) if weights[1:].any() else None

    def _two(self, before: str, after: str, whole: bool) -> Line | None:
        """Return what an encoder reads, and behind it what its decoder learns to write."""
        read = list(self.tokenizer.encode(before, add_special_tokens=not whole).ids)[: self.context]
        said = self._ended(list(self.tokenizer.encode(after, add_special_tokens=True).ids))
        self.cut += len(said) > self.context
        weights = np.repeat(np.array([0, 1], np.float32), [len(read), len(said[: self.context])])
        return Line(np.array(read + said[: self.context], np.int32), weights, len(after.encode())) if after else None

    def _ended(self, ids: list[int]) -> list[int]:
        """Return tokens with the network's end token behind them, where there is one."""
        return ids if not self.ends or ids[-1:] == self.ends[:1] else [*ids, self.ends[0]]

    def notes(self, form: Form) -> list[str]:
        """Return sentences about what was cut or left out."""
        told = []
        if self.cut:
            told.append(
                f"{self.cut:,} of {self.rows:,} rows are longer than {self.context:,} tokens; their end is cut."
            )
        if self.long:
            told.append(
                f"{self.long:,} of {self.rows:,} texts are longer than {self.context:,} tokens; "
                "each epoch reads another part of them."
            )
        if self.nothing:
            why = "no text" if form.kind == "text" else "no answer, or none within reach"
            told.append(f"{self.nothing:,} of {self.rows:,} rows teach nothing: {why}.")
        return told


def _gap(before: str, after: str) -> str:
    """Return what parts a prompt from its completion: a space, unless one of them has some."""
    return "" if not before or before[-1].isspace() or after[0].isspace() else " "


def _last(weights: np.ndarray) -> int:
    """Return where the last run of learnt tokens begins."""
    quiet = np.flatnonzero(weights == 0)
    return int(quiet[-1]) + 1 if len(quiet) and weights[-1:].any() else 0


def ends(network: Network, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens that end a text, the tokenizer's own first."""
    named = settings(network, "generation_config.json").get("eos_token_id", network.config.get("eos_token_id"))
    found = [tokenizer.token_to_id(special(network).get("eos_token", ""))]
    found += named if isinstance(named, list) else [named]
    return list(dict.fromkeys(each for each in found if isinstance(each, int)))
