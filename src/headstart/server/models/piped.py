"""Piped: a served network that answers by itself, as it was published or as `fit` has tuned it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from headstart import modalities
from headstart.core.arrays import Arrays, Session
from headstart.core.backbone import Network
from headstart.core.dataset import is_blank
from headstart.core.errors import DataError
from headstart.core.pipeline import Pipeline
from headstart.server.models.served import Encoder, Served
from headstart.server.queue.work import Answer, Asked, Budget, Row, Work
from headstart.server.requests.rows import Fields

EXAMPLES: dict[str, Row] = {
    "answer": {"question": "What has not arrived?", "context": "My order has not arrived yet."},
    "fill_mask": {"text": "My order has not [MASK] yet."},
}
"""Rows of tasks that a plain text is no example of."""
SHORT = {"max_tokens": 4}
"""Options with which the example is answered, where the task has them, so that it takes no longer than it must."""
WRITING = ("generate", "transcribe")
"""Tasks whose answer comes piece by piece."""
NOT_SET = ("vad",)
"""Options that no request may set, because they name models on the server."""


@final
@dataclass(frozen=True, eq=False)
class Whole:
    """A network that answers by itself, opened.

    Args:
        task: the pipeline's name.
        pipeline: what turns inputs into answers.
        network: what it is.
        session: it, running.
        usual: options that hold unless a request sets them.
        columns: the column that it reads and those that follow its text; none of a model as it was published.
        keep: what must live as long as it does.
    """

    task: str
    pipeline: Pipeline
    network: Network
    session: Session
    usual: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[str] = ()
    keep: Any = None


@final
class Piped(Served):
    """A network that answers by itself; its rows have one column, its answers are the pipeline's records.

    Making one answers its example, where it has one.

    Args:
        whole: the opened network.
        name: what it is called.
        version: of that name.
        budget: what fits into a batch.
        origin: where it was opened from.
        pause: called between the steps of a network that writes, so that others are answered meanwhile.

    Raises:
        HeadstartError: it cannot answer its own example.
    """

    def __init__(
        self,
        whole: Whole,
        name: str,
        version: str,
        budget: Budget,
        origin: str = "",
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name, version, whole.task, _fields(whole), budget, origin)
        self.whole = whole
        self.streams = whole.task in WRITING
        self._session = _Pausing(whole.session, pause) if self.streams else whole.session
        if whole.task == "embed" and whole.network.backbone.modality == "text":
            modality = modalities.registry.get("text").of({"columns": ["text"]}).bind(whole.network)
            reference, width = whole.network.backbone.reference, whole.network.backbone.width
            self.encoder = Encoder(modality, whole.session, width, budget, reference)
        self._warm()

    @property
    def targets(self) -> list[str]:
        """Its task."""
        return [self.task.replace("_", " ")]

    @property
    def options(self) -> Mapping[str, Any]:
        """What a request may set, with its default."""
        return {
            name: self.whole.usual.get(name, usual)
            for name, usual in self.whole.pipeline.options.items()
            if name not in NOT_SET
        }

    def input_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each input column."""
        kind = self.whole.network.backbone.modality
        if kind not in modalities.registry.names():
            kind = "text"
        found: dict[str, dict[str, Any]] = {}
        for name in self.fields.columns:
            found |= modalities.registry.get(kind).of({"columns": [name]}).schema()
        return found

    def answer_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each field of an answer, worked out from the answer to the example."""
        return {name: _schema(value) for name, value in self.example_answer.items()}

    def prepare(self, rows: Sequence[Row], options: Mapping[str, Any]) -> Work:
        """Return rows ready for the model thread.

        Raises:
            DataError: a row has no input.
            UsageError: there is no such option.
        """
        settled = self.whole.pipeline.settle({**self.whole.usual, **options})
        inputs = [self._input(row, number) for number, row in enumerate(rows, start=1)]
        return Asked(self._run, inputs, settled, [self._cost(row) for row in rows], self.streams)

    def stream(self, given: Any, options: Mapping[str, Any]) -> Iterator[str]:
        """Yield one input's answer piece by piece, as it comes.

        Args:
            given: a text, a conversation (a list of messages), or a recording.

        Raises:
            UsageError: its answer comes whole, or there is no such option.
        """
        whole = self.whole
        settled = whole.pipeline.settle({**whole.usual, **options})
        return whole.pipeline.stream(whole.network, whole.session, given, settled)

    def _run(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> list[Answer]:
        whole = self.whole
        records = whole.pipeline.run(whole.network, self._session, inputs, options)
        return [{name: value for name, value in each.items() if not name.startswith("_")} for each in records]

    def _input(self, row: Row, number: int) -> Any:
        if self.task == "answer":
            return {name: cell for name, cell in row.items() if not is_blank(cell)}
        main, *beside = self.fields.columns
        cell = row.get(main)
        if self.fields.files and is_blank(cell):
            raise DataError(f"Row {number} has no '{main}'.", allowed="It is a file's content, in a data: URL.")
        told = [row[name] for name in beside if not is_blank(row.get(name))]
        return "\n\n".join(str(each) for each in [cell, *told] if not is_blank(each)) if told else cell

    def _cost(self, row: Row) -> int:
        long = sum(len(cell) for cell in row.values() if isinstance(cell, (str, bytes)))
        return self.budget.cost(file_bytes=long) if self.fields.files else self.budget.cost(long)

    def _warm(self) -> None:
        """Answer an example, where a request can be answered without options."""
        schema = self.input_schema()[self.fields.main]
        row = EXAMPLES.get(self.task) or {self.fields.main: (schema.get("examples") or ["Hello"])[0]}
        if self.task in ("imagine", "zero_shot"):  # one takes minutes, the other cannot without labels
            self.example = row
            return
        if self.task == "fill_mask":
            row = {self.fields.main: _masked(self.whole.network, row["text"])}
        short = {name: value for name, value in SHORT.items() if name in self.whole.pipeline.options}
        self.example_answer = self.predict_rows([row], short)[0]
        self.example = row


@final
class _Pausing(Session):
    """A network that lets others come in between its steps."""

    def __init__(self, inner: Session, pause: Callable[[], None]) -> None:
        self.inner, self.pause = inner, pause

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return what the network gives."""
        found = self.inner.run(arrays)
        self.pause()
        return found

    def generate(self, arrays: Arrays, settings: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        """Yield what the network makes."""
        for step in self.inner.generate(arrays, settings):
            yield step
            self.pause()


def _fields(whole: Whole) -> Fields:
    kind = whole.network.backbone.modality
    if whole.task == "answer" and not whole.columns:
        return Fields(("question", "context"), ("question", "context"), "question")
    columns = tuple(whole.columns) or (kind if kind in ("image", "audio") else "text",)
    if kind in ("image", "audio"):
        return Fields(columns, columns[1:], columns[0], columns[:1])
    return Fields(columns, columns, columns[0])


def _masked(network: Network, text: str) -> str:
    """Return a text with the network's own mask token."""
    from headstart.pipelines._text import special

    return text.replace("[MASK]", special(network).get("mask_token", "[MASK]"))


def _schema(value: Any) -> dict[str, Any]:
    """Return JSON Schema for values such as this one."""
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number"}
    if type(value) in kinds:
        return {"type": kinds[type(value)]}
    if isinstance(value, Mapping):
        return {"type": "object", "properties": {name: _schema(each) for name, each in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"type": "array", "items": _schema(value[0]) if value else {}}
    return {}
