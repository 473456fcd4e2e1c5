"""Toys: a modality, a task and a head that are tiny, exact and need nothing, for tests of what is above them."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.dataset import as_text, table_rows
from headstart.core.head import Head
from headstart.core.metrics import softmax, wilson
from headstart.core.modality import Modality
from headstart.core.source import Table
from headstart.core.task import Task
from headstart.runtime import Runtime, Target

BUCKETS = 64
"""Columns of the array that `ToyText` gives."""
POISON = "\N{SKULL AND CROSSBONES}"
"""A word at which `ToyText` breaks as a bug would, for tests of what a broken row does to others."""


@dataclass(frozen=True)
class ToyText(Modality):
    """Word counts in hashed buckets: `prepare` gives `row` (n, 64) float32 of whole numbers, so that sums are exact."""

    columns: Sequence[str] = ("text",)
    pretrained = True

    @classmethod
    def fit(cls, table: Table, columns: Sequence[str], kinds: Mapping[str, str]) -> ToyText:
        """Remember the columns."""
        return cls(tuple(columns))

    def spec(self) -> dict[str, Any]:
        """Return the columns."""
        return {"columns": list(self.columns)}

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> ToyText:
        """Make the modality from its spec."""
        return cls(tuple(spec["columns"]))

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return a nullable string for each column."""
        cell = {"type": ["string", "null"], "description": "Some words.", "examples": ["My order has not arrived."]}
        return {name: dict(cell) for name in self.columns}

    def prepare(self, table: Table) -> dict[str, np.ndarray]:
        """Return `row` (n, 64)."""
        row = np.zeros((table_rows(table), BUCKETS), dtype=np.float32)
        for name in self.columns:
            for place, cell in enumerate(table.get(name, [])):
                text = as_text(cell)
                if POISON in text:
                    raise ValueError("poison")
                for word in re.findall(r"\w+", text.casefold()):
                    row[place, zlib.crc32(word.encode("utf-8", "replace")) % BUCKETS] += 1
        return {"row": row}


@dataclass(frozen=True)
class ToyTask(Task):
    """One label of several, without calibration."""

    target: str = "label"
    labels: tuple[str, ...] = ("blue", "green", "red")

    @classmethod
    def claims(cls, cells: Sequence[Any]) -> int:
        """Return 0, so that it is never chosen over a real task."""
        return 0

    @classmethod
    def of(cls, target: str, cells: Sequence[Any]) -> ToyTask:
        """Learn the labels."""
        return cls(target, tuple(sorted({as_text(cell) for cell in cells})))

    @property
    def width(self) -> int:
        """One score for each label."""
        return len(self.labels)

    def spec(self) -> dict[str, Any]:
        """Return target and labels."""
        return {"name": "toy", "target": self.target, "labels": list(self.labels)}

    @classmethod
    def load(cls, spec: Mapping[str, Any]) -> ToyTask:
        """Make the task from its spec."""
        return cls(spec["target"], tuple(spec["labels"]))

    def encode(self, cells: Sequence[Any]) -> np.ndarray:
        """Return label numbers (n,); -1 for an unknown label."""
        return np.array([self.labels.index(cell) if cell in self.labels else -1 for cell in map(as_text, cells)])

    def calibrate(self, scores: np.ndarray, y: np.ndarray, precision: float) -> ToyTask:
        """Return itself."""
        return self

    def without_signal(self) -> ToyTask:
        """Return itself."""
        return self

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Return the softmax (n, labels)."""
        return softmax(scores)

    def decode(self, scores: np.ndarray) -> dict[str, list[Any]]:
        """Return label and confidence."""
        chances = self.calibrated(scores)
        return {
            self.target: [self.labels[each] for each in chances.argmax(axis=1)],
            f"{self.target}_confidence": [round(float(each), 4) for each in chances.max(axis=1)],
        }

    def answer_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for label and confidence."""
        return {
            self.target: {"type": "string", "enum": list(self.labels), "description": "A colour."},
            f"{self.target}_confidence": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "description": "How sure it is.",
            },
        }

    def correct(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return 1.0 where the label is right."""
        return (scores.argmax(axis=1) == y).astype(np.float64)

    def metrics(self, scores: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Return the accuracy."""
        right = self.correct(scores, y)
        return {"rows": len(y), "accuracy": float(right.mean()), "accuracy_ci": wilson(right.sum(), len(y))}

    def gain(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return log p(y) above that of an even guess."""
        chances = self.calibrated(scores)[np.arange(len(y)), y]
        return np.log(np.maximum(chances, 1e-6)) + np.log(self.width)

    def majority(self) -> np.ndarray:
        """Return even scores."""
        return np.zeros(self.width, dtype=np.float32)


class ToyHead(Head):
    """Fixed whole-number weights for each word bucket.

    Args:
        width: scores for one row.
        delay: seconds that each call takes on top, whatever its rows, as a network's start-up would.
        row_delay: seconds that each row adds.
    """

    def __init__(self, width: int = 3, delay: float = 0.0, row_delay: float = 0.0) -> None:
        self.width, self.delay, self.row_delay = width, delay, row_delay
        self.weights = np.random.default_rng(7).integers(-2, 3, (BUCKETS, width)).astype(np.float32)

    @property
    def reads(self) -> Sequence[str]:
        """The words' buckets."""
        return ("row",)

    def scores(self, arrays: Arrays) -> np.ndarray:
        """Return scores (n, width), after the delay."""
        seconds = self.delay + self.row_delay * len(arrays["row"])
        if seconds:
            time.sleep(seconds)
        scores: np.ndarray = arrays["row"] @ self.weights
        return scores

    def spec(self) -> dict[str, Any]:
        """Return width and delays."""
        return {"width": self.width, "delay": self.delay, "row_delay": self.row_delay}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return nothing: the weights are fixed."""
        return {}

    @classmethod
    def of(cls, spec: Mapping[str, Any], arrays: Arrays) -> ToyHead:
        """Make the head from its spec."""
        return cls(spec["width"], spec["delay"], spec["row_delay"])


def toy_runtime(columns: Sequence[str] = ("text",), *, delay: float = 0.0, row_delay: float = 0.0) -> Runtime:
    """Return an opened model of toys that labels words with a colour.

    >>> toy_runtime().predict_rows(["My order has not arrived."])
    [{'label': 'blue', 'label_confidence': 0.9998}]
    """
    task = ToyTask()
    return Runtime(
        None, [ToyText(tuple(columns))], {}, {task.target: Target(task, ToyHead(task.width, delay, row_delay))}
    )
