"""Fill masks: learn the language of texts by their hidden words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.course import Examples
from headstart.core.dataset import Dataset, as_text, is_blank
from headstart.core.errors import DataError, listed, nearest
from headstart.core.metrics import wilson
from headstart.core.objective import Objective
from headstart.core.source import Table
from headstart.objectives._dialogues import TEXTS
from headstart.objectives._likelihood import perplexity
from headstart.pipelines._text import OVERLAP, encode, limit, plain, reader, windows
from headstart.training.masking import IGNORED, Masked, Words

AT_ONCE = 32
"""Texts judged at a time."""


@final
class FillMask(Objective):
    """Cross-entropy of hidden tokens: 15 % of a text, others in each epoch (see `training/masking.py`)."""

    primary = "pseudo_perplexity"
    higher = False
    defaults: Mapping[str, Any] = {
        "epochs": 5,
        "batch": 32,
        "rate": 5e-5,
        "decay": 1.0,
        "weight_decay": 0.01,
        "warmup": 0.05,
        "patience": 3,
    }

    def __init__(self, column: str, whole: bool = False) -> None:
        self.column, self.whole = column, whole

    @classmethod
    def of(cls, dataset: Dataset, train: Sequence[int], columns: Mapping[str, str]) -> FillMask:
        """Find the column of text. `columns` may say `words: whole`, to hide whole words.

        Raises:
            DataError: the named column is missing, or none is known to be text.
        """
        table = dataset.table
        name = columns.get("input") or columns.get("target") or _text_column(dataset)
        if name not in table:
            raise DataError(
                f"There is no column '{name}'." if name else "It is not known which column holds the texts.",
                allowed=f"Columns: {listed(table)}.",
                hint=nearest(name, table) if name else "Name it: --input COLUMN",
            )
        if all(is_blank(table[name][row]) for row in train):
            raise DataError(f"The column '{name}' holds no text.", hint="Name another one: --input COLUMN")
        return cls(name, columns.get("words") == "whole")

    @property
    def columns(self) -> tuple[str, str]:
        """The column of text, twice: its words are the answers."""
        return self.column, self.column

    def settings(self) -> dict[str, Any]:
        """Return the column, and whether whole words are hidden."""
        return {"column": self.column, "whole": self.whole}

    @classmethod
    def load(cls, settings: Mapping[str, Any]) -> FillMask:
        """Make the objective again from its settings."""
        return cls(settings["column"], settings["whole"])

    def ready(self, network: Network) -> dict[str, Any]:
        """Return nothing: the network has the layers already."""
        return {}

    def examples(self, network: Network, table: Table, seed: int) -> Masked:
        """Return texts with hidden tokens.

        Raises:
            HubError: the network's tokenizer has no mask token.
        """
        return Masked(_Texts(network, table[self.column]), Words.of(network), seed, whole=self.whole)

    def inputs(self, table: Table) -> list[Any]:
        """Return nothing: hidden tokens are judged by `measure`."""
        return []

    def judge(self, records: Sequence[Mapping[str, Any]], table: Table) -> dict[str, Any]:
        """Return nothing: hidden tokens are judged by `measure`."""
        return {}

    def measure(self, network: Network, session: Session, table: Table, seed: int) -> dict[str, Any]:
        """Return `accuracy` and `pseudo_perplexity` of hidden tokens, always the same ones, with their intervals."""
        examples = self.examples(network, table, seed)
        nats, right, tokens = [], [], []
        for start in range(0, len(examples.sizes), AT_ONCE):
            given = examples.batch(np.arange(start, min(start + AT_ONCE, len(examples.sizes))))
            answers = given.pop("answers")
            places = np.flatnonzero(answers != IGNORED)
            text = np.repeat(np.arange(len(given["lengths"])), given["lengths"])[places]
            if len(places):
                logits = session.run({**given, "positions": places.astype(np.int32)})["logits"].astype(np.float64)
                each = _surprise(logits, answers[places])
                right.append(logits.argmax(axis=1) == answers[places])
            else:
                each = np.zeros(0)
            nats.append(np.bincount(text, weights=each, minlength=len(given["lengths"])))
            tokens.append(np.bincount(text, minlength=len(given["lengths"])))
        hits, count = float(sum(each.sum() for each in right)), int(sum(each.sum() for each in tokens))
        judged = {"accuracy": hits / count if count else None, "accuracy_ci": wilson(hits, count), "tokens": count}
        return judged | perplexity(np.concatenate(nats), np.concatenate(tokens), self.primary, seed)


def _text_column(dataset: Dataset) -> str:
    """Return the column that is text: by its name, by its kind, or as the only one; else nothing."""
    lowered = {name.strip().casefold(): name for name in reversed(dataset.table)}
    named = [lowered[name] for name in TEXTS if name in lowered]
    kinds = [name for name, kind in dataset.kinds.items() if kind == "text"]
    single = list(dataset.table) if len(dataset.table) == 1 else []
    return next(iter([*named, *(kinds if len(kinds) == 1 else []), *single]), "")


def _surprise(logits: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return how unlikely the answers (m,) are, in nats."""
    highest = logits.max(axis=1)
    whole = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return whole - logits[np.arange(len(logits)), answers]


class _Texts(Examples):
    """Texts as a network reads them; of a long one another window in each epoch.

    Args:
        network: whose tokenizer is used.
        cells: the texts.
    """

    def __init__(self, network: Network, cells: Sequence[Any]) -> None:
        overlap = limit(network) // OVERLAP
        tokenizer = reader(network, "longest_first", overlap)
        self.parts = [
            [(np.array(part.encoding.ids, np.int32), np.array(part.encoding.type_ids, np.int32))
             for part in windows(each, overlap)]
            for each in encode(tokenizer, [plain(as_text(cell)) for cell in cells])
        ]  # fmt: skip
        long = sum(len(each) > 1 for each in self.parts)
        told = f"{long:,} of {len(cells):,} texts are longer than {limit(network):,} tokens"
        self.notes = [f"{told}; each epoch reads another part of them."] if long else []

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each text's longest window (n,)."""
        return np.array([max(len(ids) for ids, _ in each) for each in self.parts], np.int64)

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return `ids`, `types` (flat) and `lengths` (b,)."""
        some = [self.parts[row][(epoch or 0) % len(self.parts[row])] for row in rows.tolist()]
        return {
            "ids": np.concatenate([ids for ids, _ in some]),
            "types": np.concatenate([types for _, types in some]),
            "lengths": np.array([len(ids) for ids, _ in some], np.int32),
        }
