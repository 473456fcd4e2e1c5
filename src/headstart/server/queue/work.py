"""Work: the rows of one request, ready for the model thread, and what is answered in one pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from headstart.core.arrays import Arrays, Session, joined, take
from headstart.core.modality import Modality
from headstart.runtime import embedded

WHOLE = 1_000_000
"""What a whole batch costs; a row costs its share of one."""
Row = dict[str, Any]
"""One input: cells by column."""
Answer = dict[str, Any]
"""One answer record."""


@final
@dataclass(frozen=True)
class Budget:
    """What fits into one batch; whichever of them is used up first ends it, and rows and characters add up.

    Args:
        rows: most rows.
        characters: most characters of text.
        values: most numbers that decoded pictures and recordings have (pixels x channels, samples).
        file_bytes: most bytes of files that are not decoded beforehand.
    """

    rows: int = 256
    characters: int = 200_000
    values: int = 64 * 3 * 224 * 224
    file_bytes: int = 32_000_000

    def cost(self, characters: int = 0, values: int = 0, file_bytes: int = 0) -> int:
        """Return what a row costs, in parts of `WHOLE`."""
        if not values and not file_bytes:
            return max(1, WHOLE // self.rows + WHOLE * characters // self.characters)
        used = max(characters / self.characters, values / self.values, file_bytes / self.file_bytes)
        return max(1, WHOLE // self.rows, int(WHOLE * used))


class Work(ABC):
    """The rows of one request, prepared in any thread and answered in the model thread.

    Attributes:
        costs: what each row costs, in parts of `WHOLE`.
        group: work of the same group may be answered in one pass.
        long: whether it lets others come in between, and does not come in between itself.
    """

    costs: Sequence[int]
    group: Hashable
    long: bool = False

    @classmethod
    @abstractmethod
    def together(cls, parts: Sequence[Part]) -> list[list[Any]]:
        """Return the answers of each part, one for each of its rows; asked with parts of one group only."""


@final
@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a work, from `start` up to `stop`."""

    work: Work
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@final
@dataclass(frozen=True, eq=False)
class Input:
    """What one network reads of the rows of a work.

    Args:
        modality: bound to the network.
        session: the network; works that share it share its passes.
        arrays: what `modality.prepare` gave, one row each.
        keys: what tells rows with the same content apart from others.
        encoded: what `modality.encode` gave, row by row, where that was done beforehand.
    """

    modality: Modality
    session: Session
    arrays: Arrays
    keys: Sequence[Hashable]
    encoded: Sequence[Arrays] = field(default=(), repr=False)


class Owner(ABC):
    """What turns networks' vectors into answers: the heads of a model, or nothing but the vectors."""

    @abstractmethod
    def finish(self, prepared: Sequence[Arrays], vectors: Sequence[np.ndarray]) -> Sequence[Any]:
        """Return one answer for each row.

        Args:
            prepared: what each of its modalities made of the rows.
            vectors: of each of its networks, (n, width).
        """


@final
class Passes(Work):
    """Rows that go through networks and then to heads; works with the same network share its pass.

    Args:
        owner: what finishes them.
        prepared: what each of its modalities made of the rows; may be none.
        inputs: what networks read; may be none.
        costs: of each row.
    """

    def __init__(self, owner: Owner, prepared: Sequence[Arrays], inputs: Sequence[Input], costs: Sequence[int]) -> None:
        self.owner, self.prepared, self.inputs, self.costs = owner, prepared, inputs, costs
        self.group = ("network", id(inputs[0].session.shared)) if inputs else ("heads", id(owner))

    @classmethod
    def together(cls, parts: Sequence[Part]) -> list[list[Any]]:
        """Embed all parts' rows, each content once, and let each owner's heads answer its own."""
        works: list[tuple[Passes, int, int]] = [(_passes(part.work), part.start, part.stop) for part in parts]
        found = _vectors(works)
        owned: dict[int, list[int]] = {}
        for place, (work, _, _) in enumerate(works):
            owned.setdefault(id(work.owner), []).append(place)
        answers: list[list[Any]] = [[] for _ in parts]
        for places in owned.values():
            first = works[places[0]][0]
            rows = [_rows(works[place]) for place in places]
            given = list(
                first.owner.finish(
                    [joined([each[slot] for each in rows]) for slot in range(len(first.prepared))],
                    [np.concatenate([found[place][slot] for place in places]) for slot in range(len(first.inputs))],
                )
            )
            asked = sum(len(parts[place]) for place in places)
            if len(given) != asked:
                raise RuntimeError(f"The model gave {len(given)} answers for {asked} rows.")
            at = 0
            for place in places:
                answers[place] = given[at : at + len(parts[place])]
                at += len(parts[place])
        return answers


def _passes(work: Work) -> Passes:
    assert isinstance(work, Passes)
    return work


def _rows(span: tuple[Passes, int, int]) -> list[Arrays]:
    work, start, stop = span
    if start == 0 and stop == len(work.costs):
        return list(work.prepared)
    return [take(each, np.arange(start, stop)) for each in work.prepared]


def _vectors(works: Sequence[tuple[Passes, int, int]]) -> list[list[np.ndarray]]:
    """Return for each span of rows the vectors (n, width) of each of its inputs, from one pass of each network."""
    found: list[list[Any]] = [[None] * len(work.inputs) for work, _, _ in works]
    asked: dict[int, list[tuple[int, int]]] = {}
    for place, (work, _, _) in enumerate(works):
        for slot, given in enumerate(work.inputs):
            asked.setdefault(id(given.session.shared), []).append((place, slot))
    for spans in asked.values():
        first = works[spans[0][0]][0].inputs[spans[0][1]]
        known: dict[Hashable, int] = {}
        picked: list[tuple[Input, list[int]]] = []
        where: list[np.ndarray] = []
        for place, slot in spans:
            work, start, stop = works[place]
            own, new, at = work.inputs[slot], [], []
            for row in range(start, stop):
                key = own.session.variant, own.keys[row]
                number = known.get(key)
                if number is None:
                    number = known[key] = len(known)
                    new.append(row)
                at.append(number)
            picked.append((own, new))
            where.append(np.array(at, np.int64))
        vectors = _embedded(first, [(own, rows) for own, rows in picked if rows])
        for (place, slot), at_rows in zip(spans, where, strict=True):
            found[place][slot] = vectors[at_rows]
    return found


def _embedded(first: Input, picked: Sequence[tuple[Input, Sequence[int]]]) -> np.ndarray:
    session = first.session.shared
    if not first.encoded:
        arrays = joined([take(own.arrays, np.array(rows, np.int64)) for own, rows in picked])
        beside = joined([own.session.beside(len(rows)) for own, rows in picked])
        return embedded(first.modality, session, arrays, beside=beside)
    encoded = [{**own.encoded[row], **own.session.beside(1)} for own, rows in picked for row in rows]
    size = first.modality.at_once
    parts = [joined(encoded[start : start + size]) for start in range(0, len(encoded), size)]
    return np.concatenate([session.run(part)["embedding"] for part in parts])


@final
class Asked(Work):
    """Inputs of a network that answers by itself.

    Args:
        run: answers inputs with settled options.
        inputs: as the pipeline reads them.
        options: of the pipeline; inputs with the same ones are answered together.
        costs: of each input.
        long: whether the network writes step by step.
    """

    def __init__(
        self, run: Any, inputs: Sequence[Any], options: Mapping[str, Any], costs: Sequence[int], long: bool = False
    ) -> None:
        self.run, self.inputs, self.options, self.costs, self.long = run, inputs, options, costs, long
        self.group = ("pipeline", run, repr(sorted(options.items())))

    @classmethod
    def together(cls, parts: Sequence[Part]) -> list[list[Any]]:
        """Answer all parts' inputs in one call."""
        works = [part.work for part in parts]
        first = works[0]
        assert isinstance(first, Asked)
        inputs: list[Any] = []
        for part in parts:
            assert isinstance(part.work, Asked)
            inputs += part.work.inputs[part.start : part.stop]
        given = first.run(inputs, first.options)
        if len(given) != len(inputs):
            raise RuntimeError(f"The model gave {len(given)} answers for {len(inputs)} rows.")
        answers, at = [], 0
        for part in parts:
            answers.append(given[at : at + len(part)])
            at += len(part)
        return answers
