"""Fitted: a served bundle of targets, whose heads read networks that it may share with others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart import modalities
from headstart.core.arrays import Arrays, row_count, take
from headstart.core.dataset import is_blank
from headstart.core.errors import UsageError, listed
from headstart.core.modality import Modality
from headstart.runtime import Runtime, embedded
from headstart.server.models.served import Encoder, Served
from headstart.server.queue.work import Answer, Budget, Input, Owner, Passes, Row, Work
from headstart.server.requests.rows import Fields


@final
class Fitted(Served, Owner):
    """A bundle of targets, opened; making one answers its example, so that the first caller does not wait.

    Args:
        runtime: the opened bundle.
        name: what it is called.
        version: of that name.
        budget: what fits into a batch.
        origin: where it was opened from.

    Raises:
        HeadstartError: it cannot answer its own example.
    """

    def __init__(self, runtime: Runtime, name: str, version: str, budget: Budget, origin: str = "") -> None:
        super().__init__(name, version, "columns", Fields.of(runtime), budget, origin)
        self.runtime = runtime
        self.encoder = _encoder(runtime, budget)
        self.example = _example(runtime)
        self.example_answer = self.predict_rows([self.example])[0]

    @property
    def targets(self) -> list[str]:
        """The columns that it predicts."""
        return list(self.runtime.targets)

    @property
    def options(self) -> Mapping[str, Any]:
        """Nothing: heads have no options."""
        return {}

    def input_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each input column."""
        return self.runtime.input_schema()

    def answer_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each answer column."""
        return self.runtime.answer_schema()

    def prepare(self, rows: Sequence[Row], options: Mapping[str, Any]) -> Work:
        """Return rows ready for the model thread, the files among their cells decoded for their networks.

        Raises:
            DataError: a cell cannot be read.
            UsageError: an option is given.
        """
        if options:
            raise UsageError(
                f"The model '{self.name}' has no option {listed(options)}.", allowed="Models of columns have none."
            )
        prepared = self.runtime.prepare(self.runtime.table(rows))
        inputs = [_input(*each) for each in self.runtime.read_by_networks(prepared)]
        return Passes(self, prepared, inputs, self._costs(rows, inputs))

    def finish(self, prepared: Sequence[Arrays], vectors: Sequence[np.ndarray]) -> Sequence[Answer]:
        """Return the heads' answers."""
        table = self.runtime.decoded(self.runtime.joined(prepared, vectors))
        return [dict(zip(table, record, strict=True)) for record in zip(*table.values(), strict=True)]

    def stream(self, given: Any, options: Mapping[str, Any]) -> Iterator[str]:
        """Refuse: columns come whole.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"The model '{self.name}' answers with columns, which come whole, not piece by piece.")
        yield ""

    def _costs(self, rows: Sequence[Row], inputs: Sequence[Input]) -> list[int]:
        values = [0] * len(rows)
        for each in inputs:
            for row, encoded in enumerate(each.encoded):
                values[row] += sum(array.size for array in encoded.values())
        files = self.fields.files
        return [
            self.budget.cost(
                sum(len(cell) for name, cell in row.items() if isinstance(cell, str) and name not in files), own
            )
            for row, own in zip(rows, values, strict=True)
        ]


def _input(modality: Modality, session: Any, own: Arrays) -> Input:
    if not modality.files:
        return Input(modality, session, own, list(modality.contents(own)))
    cells = next(iter(own.values()))
    keys = [cell if isinstance(cell, (str, bytes)) else id(cell) for cell in cells]
    # Each by itself: rows are put into batches in any order, and what is ragged cannot be cut apart again.
    encoded = [modality.encode(take(own, np.arange(row, row + 1))) for row in range(row_count(own))]
    return Input(modality, session, own, keys, encoded)


def _encoder(runtime: Runtime, budget: Budget) -> Encoder | None:
    """Return what gives vectors of texts, where one of the networks reads texts."""
    for modality, session, _ in runtime.read_by_networks([{} for _ in runtime.inputs]):
        if not modality.files:
            width = embedded(modality, session, modality.prepare({modality.columns[0]: ["example"]})).shape[1]
            return Encoder(modality, session, width, budget, _reference(runtime, modality))
    return None


def _reference(runtime: Runtime, modality: Modality) -> str:
    if runtime.bundle is None:
        return ""
    return str(runtime.bundle.json("backbones.json")[modalities.name_of(modality)]["reference"])


def _example(runtime: Runtime) -> Row:
    """Return a row made of the columns' own examples."""
    examples = {name: (schema.get("examples") or [None])[0] for name, schema in runtime.input_schema().items()}
    row: dict[str, Any] = {name: cell for name, cell in examples.items() if not is_blank(cell)}
    return row or {runtime.main_column: "example"}
