"""The Runtime: an opened bundle, the only way from an input to a prediction."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart import heads, modalities, tasks
from headstart.core.arrays import Arrays, Session, joined_vectors, row_count, take
from headstart.core.backbone import Network
from headstart.core.bundle import Bundle
from headstart.core.dataset import table_rows
from headstart.core.errors import DataError, listed, nearest
from headstart.core.head import Head
from headstart.core.modality import HANDCRAFTED, Modality
from headstart.core.source import Table
from headstart.core.task import Task


@dataclass(frozen=True)
class Target:
    """One target of a bundle: its task, the head that answers, and the from-scratch head it is compared to."""

    task: Task
    head: Head
    baseline: Head | None = None


class Runtime:
    """An opened bundle.

    Safe to call from several threads: the network runs one batch at a time.

    Args:
        bundle: the bundle it was opened from; None while fitting.
        inputs: the modalities that read a row, side by side.
        sessions: the opened network of each modality that has one.
        targets: by target name.
    """

    def __init__(
        self,
        bundle: Bundle | None,
        inputs: Sequence[Modality],
        sessions: Mapping[str, Session],
        targets: Mapping[str, Target],
    ) -> None:
        self.bundle, self.inputs, self.sessions, self.targets = bundle, inputs, sessions, targets
        self._lock = threading.Lock()

    @staticmethod
    def open(
        bundle: Bundle,
        networks: Mapping[str, Network] | None = None,
        sessions: Mapping[str, Session] | None = None,
        *,
        baselines: bool = True,
    ) -> Runtime:
        """Open a bundle with the networks it was fitted with, by modality, and the sessions that run them.

        Args:
            baselines: whether the from-scratch heads are opened too, which answers do not need.
        """
        inputs = []
        for name, spec in bundle.json("inputs.json").items():
            modality = modalities.registry.get(name).of(spec)
            inputs.append(modality.bind(networks[name]) if networks and name in networks else modality)
        arrays = bundle.arrays("heads.safetensors")
        targets = {}
        for name, spec in bundle.json("targets.json").items():
            wanted = [each for each in spec["heads"] if baselines or each["role"] == "head"]
            made = {each["role"]: _head(each, arrays) for each in wanted}
            task = tasks.registry.get(spec["task"]["name"]).load(spec["task"])
            targets[name] = Target(task, made["head"], made.get("baseline"))
        return Runtime(bundle, inputs, sessions or {}, targets)

    @property
    def columns(self) -> list[str]:
        """The columns that a row may have, in order."""
        return [name for modality in self.inputs for name in modality.columns]

    @property
    def main_column(self) -> str:
        """The column that a bare text stands for: the last text column, else one of files, else the first column."""
        texts = [name for each in self.inputs if each.pretrained and not each.files for name in each.columns]
        return (texts or self.file_columns or self.columns)[-1 if texts else 0]

    @property
    def file_columns(self) -> list[str]:
        """The columns whose cells are files."""
        return [name for modality in self.inputs if modality.files for name in modality.columns]

    def features(self, table: Table, *, baseline: bool = False) -> dict[str, np.ndarray]:
        """Return the named arrays that heads read, one row each.

        Args:
            baseline: also what the from-scratch heads read, which answers do not need.
        """
        prepared = self.prepare(table)
        vectors = [embedded(*each, self._lock) for each in self.read_by_networks(prepared)]
        return self.joined(prepared, vectors, baseline=baseline)

    def prepare(self, table: Table) -> list[dict[str, np.ndarray]]:
        """Return what each modality makes of the rows of a table, one row each."""
        return [modality.prepare(table) for modality in self.inputs]

    def read_by_networks(self, prepared: Sequence[Arrays]) -> list[tuple[Modality, Session, Arrays]]:
        """Return each modality that a network reads, with that network and what `prepare` gave."""
        pairs = zip(self.inputs, prepared, strict=True)
        named = [(modality, self.sessions.get(modalities.name_of(modality)), own) for modality, own in pairs]
        return [(modality, session, own) for modality, session, own in named if session is not None]

    def joined(
        self, prepared: Sequence[Arrays], vectors: Sequence[np.ndarray], *, baseline: bool = False
    ) -> dict[str, np.ndarray]:
        """Return the named arrays that heads read, of what `prepare` gave and the vectors (n, width) of each network.

        Args:
            baseline: also what the from-scratch heads read.
        """
        arrays: dict[str, np.ndarray] = {}
        crafted = baseline or any(
            name.endswith(HANDCRAFTED) for each in self.targets.values() for name in each.head.reads
        )
        for modality, own in zip(self.inputs, prepared, strict=True):
            arrays |= own
            if crafted:
                arrays |= modality.handcrafted(own)
        if vectors:
            arrays["embedding"] = joined_vectors(vectors)
        return arrays

    def scores(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return each target's raw scores (n, width) from features."""
        return {name: target.head.scores(arrays) for name, target in self.targets.items()}

    def predict(self, table: Table) -> Table:
        """Return the answer columns for the rows of a table.

        Raises:
            DataError: an input column is missing, or a cell cannot be read.
        """
        if not table_rows(table):
            return {name: [] for target in self.targets.values() for name in target.task.answer_schema()}
        self.check_columns(table)
        return self.decoded(self.features(table))

    def decoded(self, arrays: Arrays) -> Table:
        """Return the answer columns from features."""
        answers: Table = {}
        for name, scores in self.scores(arrays).items():
            answers |= self.targets[name].task.decode(scores)
        return answers

    def predict_rows(self, rows: Sequence[Mapping[str, Any] | str]) -> list[dict[str, Any]]:
        """Return one answer record for each row; a bare text stands for the main text column."""
        table = self.table(rows)
        answers = self.predict(table)
        return [dict(zip(answers, record, strict=True)) for record in zip(*answers.values(), strict=True)]

    def predict_chunks(self, chunks: Iterable[Table]) -> Iterator[tuple[Table, Table]]:
        """Yield each chunk with its answers, in constant memory."""
        for chunk in chunks:
            yield chunk, self.predict(chunk)

    def table(self, rows: Sequence[Mapping[str, Any] | str]) -> Table:
        """Turn rows (mappings or bare texts) into a table of this model's input columns.

        Raises:
            DataError: a row names a column that the model does not read, or names none that it does.
        """
        columns = self.columns
        records = [{self.main_column: row} if isinstance(row, str) else row for row in rows]
        for number, record in enumerate(records):
            for name in record:
                if name not in columns:
                    raise DataError(
                        f"Row {number + 1} has a field '{name}' that this model does not read.",
                        allowed=f"Fields: {listed(columns)}.",
                        hint=nearest(name, columns),
                    )
            if not record:
                raise DataError(f"Row {number + 1} is empty.", allowed=f"Fields: {listed(columns)}.")
        return {name: [record.get(name) for record in records] for name in columns}

    def check_columns(self, table: Table) -> None:
        """Raise DataError if the table lacks an input column."""
        for name in self.columns:
            if name not in table:
                raise DataError(
                    f"The table has no column '{name}', which this model reads.",
                    allowed=f"It reads {listed(self.columns)}; the table has {listed(table)}.",
                    hint=nearest(name, table),
                )

    def input_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each input column."""
        schema: dict[str, dict[str, Any]] = {}
        for modality in self.inputs:
            schema |= modality.schema()
        return schema

    def answer_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each answer column."""
        schema: dict[str, dict[str, Any]] = {}
        for target in self.targets.values():
            schema |= target.task.answer_schema()
        return schema


def embedded(
    modality: Modality,
    session: Session,
    arrays: Arrays,
    lock: threading.Lock | None = None,
    beside: Arrays | None = None,
) -> np.ndarray:
    """Return a network's vectors (n, width) of what `modality.prepare` gave.

    The next rows are decoded while the network is busy with those before them.

    Args:
        beside: what the network reads of each row beside what `modality.encode` makes of it.
    """
    rows = row_count(arrays)
    starts = range(0, rows, modality.at_once)
    parts = [take(arrays, np.arange(start, min(start + modality.at_once, rows))) for start in starts]
    more = [{name: each[at : at + modality.at_once] for name, each in (beside or {}).items()} for at in starts]
    if len(parts) == 1:
        return _vectors(session, {**modality.encode(parts[0]), **more[0]}, lock)
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(modality.encode, parts[0])
        found = []
        for number in range(len(parts)):
            encoded = coming.result()
            if number + 1 < len(parts):
                coming = ahead.submit(modality.encode, parts[number + 1])
            found.append(_vectors(session, {**encoded, **more[number]}, lock))
    return np.concatenate(found)


def _vectors(session: Session, encoded: Arrays, lock: threading.Lock | None) -> np.ndarray:
    with lock or nullcontext():
        return session.run(encoded)["embedding"]


def _head(spec: Mapping[str, Any], arrays: Arrays) -> Head:
    prefix = spec["prefix"] + "/"
    own = {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}
    return heads.registry.get(spec["kind"]).of(spec["settings"], own)
