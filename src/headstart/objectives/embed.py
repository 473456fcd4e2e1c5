"""Embed: learn vectors in which texts that belong together lie together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.dataset import Dataset, is_blank
from headstart.core.errors import DataError, UsageError, listed
from headstart.core.objective import Objective
from headstart.core.source import Table
from headstart.modalities.text import Text
from headstart.objectives import _ranks
from headstart.objectives._couples import COLUMN, Couples, columns_of, number_of

AT_ONCE = 64
"""Texts judged at a time."""


@final
class Embed(Objective):
    """Pairs of texts: question and answer, title and body, one wording and another.

    Pairs that belong together are learnt against all others of a batch (multiple negatives ranking) and judged by how
    high a text's own counterpart stands among all counterparts. With a column `score`, pairs are graded: cosines learn
    the order of the grades (CoSENT), and are judged by Spearman's rank correlation.
    """

    answered = 100
    defaults: Mapping[str, Any] = {
        "epochs": 5,
        "batch": 64,
        "rate": 1e-4,
        "decay": 0.95,
        "weight_decay": 0.01,
        "warmup": 0.1,
        "patience": 2,
    }

    def __init__(self, first: str, second: str, grade: str) -> None:
        self.first, self.second, self.grade = first, second, grade
        self.primary = "spearman" if grade else "mrr"

    @classmethod
    def of(cls, dataset: Dataset, train: Sequence[int], columns: Mapping[str, str]) -> Embed:
        """Find the two columns of texts, and the one of grades where there is one.

        Raises:
            DataError: they are not known, hold nothing, or all grades are alike.
        """
        first, second, grade = columns_of(dataset, {key: columns[key] for key in ("input", "target") if key in columns})
        table = dataset.table
        for name in (first, second):
            if all(is_blank(table[name][row]) for row in train):
                raise DataError(f"The column '{name}' holds no text.", hint="Name another one: --input, --target")
        grades = {number_of(table[grade][row]) for row in train} - {None} if grade else set()
        if grade and len(grades) < 2:
            raise DataError(
                f"The grades in '{grade}' do not differ: {listed(sorted(map(str, grades))) or 'there is no number'}.",
                allowed="Numbers that are higher for pairs that belong together more.",
                hint="Leave the column out where all pairs belong together.",
            )
        return cls(first, second, grade)

    @property
    def columns(self) -> tuple[str, str]:
        """The two columns of texts."""
        return self.first, self.second

    def settings(self) -> dict[str, Any]:
        """Return the columns."""
        return {"first": self.first, "second": self.second, "grade": self.grade}

    @classmethod
    def load(cls, settings: Mapping[str, Any]) -> Embed:
        """Make the objective again from its settings."""
        return cls(settings["first"], settings["second"], settings["grade"])

    def ready(self, network: Network) -> dict[str, Any]:
        """Return nothing: a network that embeds has all that is needed.

        Raises:
            UsageError: it does not read texts.
        """
        if network.backbone.modality != "text":
            raise UsageError(
                f"'{network.backbone.reference}' reads {network.backbone.modality}, and pairs are of texts.",
                allowed="Text networks that embed, such as builtin:all-MiniLM-L6-v2.",
            )
        return {}

    def unusable(self, table: Table, learning: bool = True) -> dict[int, str]:
        """Return rows without one of the texts, or without a number where they are graded."""
        found = super().unusable(table, learning)
        if self.grade:
            if self.grade not in table:
                raise DataError(f"There is no column '{self.grade}'.", allowed=f"Columns: {listed(table)}.")
            for row, cell in enumerate(table[self.grade]):
                if number_of(cell) is None:
                    found.setdefault(row, f"Row {row + 1} has no number in the column '{self.grade}'.")
        return found

    def examples(self, network: Network, table: Table, seed: int) -> Couples:
        """Return the pairs."""
        return Couples(network, table[self.first], table[self.second], self._grades(table))

    def judge(self, records: Sequence[Mapping[str, Any]], table: Table) -> dict[str, Any]:
        """Return nothing: vectors are judged by `measure`, all pairs together."""
        return {}

    def measure(self, network: Network, session: Session, table: Table, seed: int) -> dict[str, Any]:
        """Return `mrr`, `recall_1` and `recall_10` among all counterparts of the table; of graded pairs `spearman`."""
        text = Text([COLUMN])
        first, second = (text.prepare({COLUMN: table[name]})["text"].tolist() for name in self.columns)
        known = {each: place for place, each in enumerate(dict.fromkeys([*first, *second]))}
        vectors = _vectors(text.bind(network), session, list(known))
        asked, found = ([known[each] for each in side] for side in (first, second))
        grades = self._grades(table)
        if grades is not None:
            return _ranks.order((vectors[asked] * vectors[found]).sum(axis=1), grades, seed)
        answers = {place: number for number, place in enumerate(dict.fromkeys(found))}
        right: dict[int, set[int]] = {}
        for one, other in zip(asked, found, strict=True):
            right.setdefault(one, set()).add(answers[other])
        places = _ranks.ranks(vectors[asked], vectors[list(answers)], [right[each] for each in asked])
        return _ranks.retrieval(places, len(answers), seed)

    def _grades(self, table: Table) -> np.ndarray | None:
        if not self.grade:
            return None
        return np.array([number_of(cell) for cell in table[self.grade]], np.float64)


def _vectors(text: Text, session: Session, texts: Sequence[str]) -> np.ndarray:
    """Return vectors (n, width) of unit length; texts of like length go through together."""
    order = np.argsort([-len(each) for each in texts], kind="stable")
    parts = []
    for start in range(0, len(order), AT_ONCE):
        some = np.array([texts[row] for row in order[start : start + AT_ONCE]], dtype=object)
        parts.append(session.run(text.encode({"text": some}))["embedding"].astype(np.float32))
    vectors = np.zeros((len(texts), parts[0].shape[1]), np.float32)
    vectors[order] = np.concatenate(parts)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
