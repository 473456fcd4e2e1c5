"""The Task contract: what is predicted, how scores become answers, and how answers are judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Task(ABC):
    """What one target column asks for (one file in `tasks/`). Instances are frozen; `spec` is plain JSON data.

    A task turns cells into `y` (`encode`), scores into probabilities or values (`calibrated`), those into
    answers (`decode`), and judges them (`metrics`). Rows whose target cell is blank are left out before
    `encode`, so `y` has no holes.
    """

    target: str
    """The target column's name."""

    primary: str = "accuracy"
    """The name of the metric by which two models of this task are compared; higher is better."""

    @classmethod
    @abstractmethod
    def claims(cls, cells: Sequence[Any]) -> int:
        """Return how well this task fits these non-blank target cells: 0 not at all, the highest wins."""

    @classmethod
    @abstractmethod
    def of(cls, target: str, cells: Sequence[Any]) -> Task:
        """Learn labels or scale from the non-blank target cells of training rows.

        Raises:
            DataError: nothing can be learnt from them (one class only, no numbers).
        """

    @property
    @abstractmethod
    def width(self) -> int:
        """How many scores a head gives for one row."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return all that `load` needs to make this task again, as plain JSON data."""

    @classmethod
    @abstractmethod
    def load(cls, spec: Mapping[str, Any]) -> Task:
        """Make a task from its spec."""

    @abstractmethod
    def encode(self, cells: Sequence[Any]) -> np.ndarray:
        """Return `y` for non-blank cells: class numbers (n,), 0/1 marks (n, labels), or values (n,).

        A label that training never saw becomes -1 (or no mark).
        """

    @abstractmethod
    def calibrate(self, scores: np.ndarray, y: np.ndarray, precision: float) -> Task:
        """Return this task with its temperature and thresholds chosen on held-out scores (n, width).

        `precision` is the share of right answers that automated rows must reach with 95 % confidence.
        """

    @abstractmethod
    def without_signal(self) -> Task:
        """Return this task for constant scores (`majority`): nothing is automated."""

    @abstractmethod
    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Turn a head's scores (n, width) into calibrated probabilities (n, width) or values."""

    @abstractmethod
    def decode(self, scores: np.ndarray) -> dict[str, list[Any]]:
        """Turn scores (n, width) into answer columns named after the target: `t`, `t_confidence` and so on.

        Every cell is a plain Python value that JSON can hold.
        """

    @abstractmethod
    def answer_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for each column that `decode` gives."""

    @abstractmethod
    def metrics(self, scores: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Judge scores against `y`: a JSON-ready mapping with `<primary>` and `<primary>_ci` and more."""

    @abstractmethod
    def correct(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return how good each answer is, (n,), higher is better; its mean is the primary metric."""

    @abstractmethod
    def gain(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return per row how much better the scores explain `y` than the training prior does, (n,).

        A mean whose confidence interval reaches 0 says that there is no signal in the labels.
        """

    @abstractmethod
    def majority(self) -> np.ndarray:
        """Return the scores (width,) of the best constant answer."""
