"""Served: one opened version of a model, whatever kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session
from headstart.core.modality import Modality
from headstart.server.queue.work import Answer, Budget, Input, Owner, Part, Passes, Row, Work
from headstart.server.requests.rows import Fields

INLINE = 4_000
"""Characters of text that are prepared at once; more, and all files, are prepared in the pool."""


class Served(ABC):
    """One opened version of a model.

    Args:
        name: what it is called.
        version: of that name, such as `1`.
        task: `columns` for a bundle of targets, else the pipeline's name (`generate`, `embed`, `detect`, …).
        fields: the fields that a row may have.
        budget: what fits into a batch.
        origin: where it was opened from: a bundle's folder, or a reference.

    Attributes:
        example, example_answer: a row that it answers, and its answer; empty where it has none.
        encoder: what gives vectors of texts; None where it has no network that does.
        streams: whether it writes its answer piece by piece.
        users: requests that are using it now.
    """

    def __init__(self, name: str, version: str, task: str, fields: Fields, budget: Budget, origin: str = "") -> None:
        self.name, self.version, self.task, self.fields = name, version, task, fields
        self.budget, self.origin = budget, origin
        self.opened = datetime.now(UTC)
        self.users = 0
        self.streams = False
        self.encoder: Encoder | None = None
        self.example: Row = {}
        self.example_answer: Answer = {}

    @property
    def columns(self) -> list[str]:
        """The columns that a row may have, in order."""
        return list(self.fields.columns)

    @property
    @abstractmethod
    def targets(self) -> list[str]:
        """What it predicts, in words: its targets, or its task."""

    @property
    @abstractmethod
    def options(self) -> Mapping[str, Any]:
        """What a request may set, with its default."""

    @abstractmethod
    def input_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each input column."""

    @abstractmethod
    def answer_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each answer column."""

    @abstractmethod
    def prepare(self, rows: Sequence[Row], options: Mapping[str, Any]) -> Work:
        """Return rows ready for the model thread: files decoded, options checked; in any thread.

        Raises:
            DataError: a cell cannot be read.
            UsageError: there is no such option.
        """

    @abstractmethod
    def stream(self, given: Any, options: Mapping[str, Any]) -> Iterator[str]:
        """Yield one input's answer piece by piece; in the model thread only.

        Raises:
            UsageError: its answer comes whole.
        """

    def heavy(self, rows: Sequence[Row]) -> bool:
        """Return whether rows take too long to prepare for the event loop to wait."""
        if self.fields.files:
            return True
        left = INLINE
        for row in rows:
            for cell in row.values():
                left -= len(cell) if isinstance(cell, str) else 0
            left -= 10
            if left < 0:
                return True
        return False

    def predict_rows(self, rows: Sequence[Row], options: Mapping[str, Any] | None = None) -> list[Answer]:
        """Return one answer record for each row; in the model thread only, as are all passes of its network."""
        work = self.prepare(rows, options or {})
        return type(work).together([Part(work, 0, len(work.costs))])[0] if rows else []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, version={self.version!r}, task={self.task!r})"


@final
class Encoder(Owner):
    """The vectors that a network gives of texts; it shares its passes with the models on the same network.

    Args:
        modality: text, bound to the network.
        session: the network.
        width: numbers of a vector.
        budget: what fits into a batch.
        reference: the network's name.
    """

    def __init__(self, modality: Modality, session: Session, width: int, budget: Budget, reference: str = "") -> None:
        self.modality, self.session, self.width = modality, session, width
        self.budget, self.reference = budget, reference

    def prepare(self, texts: Sequence[str]) -> Work:
        """Return texts ready for the model thread."""
        column = self.modality.columns[0]
        arrays = self.modality.prepare({column: list(texts)})
        keys = list(self.modality.contents(arrays))
        costs = [self.budget.cost(len(key)) for key in keys]
        return Passes(self, [], [Input(self.modality, self.session, arrays, keys)], costs)

    def finish(self, prepared: Sequence[Arrays], vectors: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Return each text's vector (width,) float32."""
        return list(np.asarray(vectors[0], np.float32))
