"""Choose any number of labels (multi-label)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np

from headstart.core import metrics
from headstart.core.dataset import as_text
from headstart.core.errors import DataError
from headstart.core.task import Task

SEPARATOR = re.compile(r"\s*[|;]\s*")
MINIMUM_ROWS = 2
"""A tag of fewer training rows cannot be learnt and is left out."""


def tags(cell: Any) -> list[str]:
    """Return a cell's tags: a list as it is, a text split at `|` or `;`."""
    parts = cell if isinstance(cell, (list, tuple, set, np.ndarray)) else SEPARATOR.split(as_text(cell))
    return sorted({str(part).strip() for part in parts if str(part).strip()})


@final
@dataclass(frozen=True)
class Tag(Task):
    """Any number of labels. A head's scores are one logit for each label, (n, labels).

    Args:
        target: the column; its cells are lists, or texts joined by `|` or `;`.
        labels: in the order of the scores.
        prior: each label's share of the training rows.
        temperature: scores are divided by it before the logistic function.
        cuts: for each label, the probability from which it is given; chosen for F1 on held-out rows.
        threshold: confidence in the whole set from which a row may be automated; None where none was certified.
        precision: the share of exactly right sets that `threshold` was certified for.
    """

    target: str
    labels: tuple[str, ...]
    prior: tuple[float, ...]
    temperature: float = 1.0
    cuts: tuple[float, ...] = ()
    threshold: float | None = None
    precision: float = 0.95

    @classmethod
    def claims(cls, cells: Sequence[Any]) -> int:
        """Return 3 where cells are lists, or texts of which many hold several parts that come back."""
        if any(isinstance(cell, (list, tuple, set, np.ndarray)) for cell in cells):
            return 3
        several = [tags(cell) for cell in cells if SEPARATOR.search(as_text(cell))]
        if len(several) < max(2, 0.1 * len(cells)):
            return 0
        parts = [part for each in several for part in each]
        return 3 if len(set(parts)) <= 0.5 * len(parts) else 0

    @classmethod
    def of(cls, target: str, cells: Sequence[Any]) -> Tag:
        """Learn the labels that have at least two rows."""
        names, counts = np.unique([tag for cell in cells for tag in tags(cell)], return_counts=True)
        keep = (counts >= MINIMUM_ROWS) & (counts < len(cells))
        if not keep.any():
            raise DataError(
                f"The target '{target}' has no tag that some rows have and others lack.",
                allowed="Tags are lists, or texts joined by '|' or ';'.",
                hint="If its cells are single labels, use --task classify.",
            )
        return cls(
            target,
            tuple(str(name) for name in names[keep]),
            tuple(float(count / len(cells)) for count in counts[keep]),
            cuts=(0.5,) * int(keep.sum()),
        )

    @property
    def width(self) -> int:
        """One score for each label."""
        return len(self.labels)

    def spec(self) -> dict[str, Any]:
        """Return its fields as plain JSON data."""
        return {"name": "tag", **{key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}}

    @classmethod
    def load(cls, spec: Mapping[str, Any]) -> Tag:
        """Make the task from its spec."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in spec.items() if name != "name"
        }
        return cls(**fields)

    def encode(self, cells: Sequence[Any]) -> np.ndarray:
        """Return 0/1 marks (n, labels) int64."""
        number = {label: each for each, label in enumerate(self.labels)}
        y = np.zeros((len(cells), self.width), dtype=np.int64)
        for row, cell in enumerate(cells):
            for tag in tags(cell):
                if tag in number:
                    y[row, number[tag]] = 1
        return y

    def calibrate(self, scores: np.ndarray, y: np.ndarray, precision: float) -> Tag:
        """Choose temperature, a cut for each label (greatest F1) and the automation threshold on held-out scores."""
        from scipy.optimize import minimize_scalar

        def loss(log_temperature: float) -> float:
            chance = metrics.sigmoid(scores / np.exp(log_temperature))
            return float(-np.log(np.maximum(np.where(y == 1, chance, 1 - chance), 1e-12)).mean())

        found = minimize_scalar(loss, bounds=(-6.0, 6.0), method="bounded", options={"xatol": 1e-3})
        tempered = replace(self, temperature=float(np.exp(found.x)), precision=precision)
        chances = tempered.calibrated(scores)
        cuts = tuple(_best_cut(chances[:, each], y[:, each]) for each in range(self.width))
        tempered = replace(tempered, cuts=cuts)
        right = (tempered._given(chances) == y).all(axis=1)
        return replace(tempered, threshold=metrics.certified_threshold(tempered._confidence(chances), right, precision))

    def without_signal(self) -> Tag:
        """Return this task for constant scores."""
        return replace(self, temperature=1.0, cuts=(0.5,) * self.width, threshold=None)

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities (n, labels)."""
        return metrics.sigmoid(scores / self.temperature)

    def _given(self, chances: np.ndarray) -> np.ndarray:
        return (chances >= np.array(self.cuts)).astype(np.int64)

    def _confidence(self, chances: np.ndarray) -> np.ndarray:
        given = self._given(chances)
        return np.where(given == 1, chances, 1 - chances).prod(axis=1)

    def _automated(self, confidence: np.ndarray) -> np.ndarray:
        return np.zeros(len(confidence), dtype=bool) if self.threshold is None else confidence >= self.threshold

    def decode(self, scores: np.ndarray) -> dict[str, list[Any]]:
        """Return the list of tags, each tag's probability, confidence in the whole set, and automation."""
        chances = self.calibrated(scores)
        given, confidence = self._given(chances), self._confidence(chances)
        rows = [np.flatnonzero(each) for each in given]
        return {
            self.target: [[self.labels[k] for k in each] for each in rows],
            f"{self.target}_probability": [
                [round(float(chances[row, k]), 4) for k in each] for row, each in enumerate(rows)
            ],
            f"{self.target}_confidence": [round(float(each), 4) for each in confidence],
            f"{self.target}_automated": self._automated(confidence).tolist(),
        }

    def answer_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for the four answer columns."""
        return {
            self.target: {
                "type": "array",
                "items": {"type": "string", "enum": list(self.labels)},
                "description": "The tags given.",
            },
            f"{self.target}_probability": {
                "type": "array",
                "items": {"type": "number"},
                "description": "Calibrated probability of each tag given, in the same order.",
            },
            f"{self.target}_confidence": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "description": "Probability that the whole set is right, taking tags as independent.",
            },
            f"{self.target}_automated": {
                "type": "boolean",
                "description": f"Whether the set may be acted on without a person at {self.precision:.0%} precision.",
            },
        }

    def correct(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return 1.0 where the whole set is right."""
        return (self._given(self.calibrated(scores)) == y).all(axis=1).astype(np.float64)

    def gain(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the log-likelihood of the marks minus that under the tags' shares, summed over tags."""
        prior = np.clip(np.array(self.prior), 1e-6, 1 - 1e-6)
        chances = np.clip(self.calibrated(scores), 1e-6, 1 - 1e-6)
        explained = np.where(y == 1, np.log(chances), np.log(1 - chances))
        return (explained - np.where(y == 1, np.log(prior), np.log(1 - prior))).sum(axis=1)

    def majority(self) -> np.ndarray:
        """Return the logit of each tag's share as constant scores."""
        prior = np.clip(np.array(self.prior), 1e-6, 1 - 1e-6)
        return np.log(prior / (1 - prior)).astype(np.float32)

    def metrics(self, scores: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Return exact-set accuracy, micro and macro measures, calibration and automation, with 95 % intervals."""
        chances = self.calibrated(scores)
        given, confidence = self._given(chances), self._confidence(chances)
        right = (given == y).all(axis=1)
        drawn = np.random.default_rng(0).integers(0, len(y), size=(200, len(y)))
        sums = np.stack([(given & y), given, y]).astype(np.float64)
        boot = [_f1(sums[:, each].sum(axis=1)) for each in drawn]
        micro, macro = _f1(sums.sum(axis=1))
        totals = sums.sum(axis=1)
        return {
            "rows": len(y),
            "accuracy": float(right.mean()),
            "accuracy_ci": metrics.wilson(right.sum(), len(y)),
            "micro_f1": micro,
            "micro_f1_ci": metrics.bounded(np.array([each[0] for each in boot])),
            "macro_f1": macro,
            "macro_f1_ci": metrics.bounded(np.array([each[1] for each in boot])),
            "precision": float(totals[0].sum() / max(totals[1].sum(), 1)),
            "precision_ci": metrics.wilson(totals[0].sum(), int(totals[1].sum())),
            "recall": float(totals[0].sum() / max(totals[2].sum(), 1)),
            "recall_ci": metrics.wilson(totals[0].sum(), int(totals[2].sum())),
            "ece": metrics.calibration_error(chances.ravel(), y.ravel()),
            **metrics.automation(confidence, self._automated(confidence), right, self.precision, self.threshold),
            "reliability": metrics.reliability(chances.ravel(), y.ravel()),
            "per_class": [self._class_row(k, totals) for k in range(self.width)],
        }

    def _class_row(self, k: int, totals: np.ndarray) -> dict[str, Any]:
        both, given, true = (int(each) for each in totals[:, k])
        return {
            "label": self.labels[k],
            "rows": true,
            "precision": both / given if given else None,
            "precision_ci": metrics.wilson(both, given) if given else None,
            "recall": both / true if true else None,
            "recall_ci": metrics.wilson(both, true) if true else None,
            "f1": 2 * both / (given + true) if given + true else None,
        }


def _best_cut(chances: np.ndarray, y: np.ndarray) -> float:
    """Return the probability cut of greatest F1; 0.5 where the tag never occurs."""
    if not y.any():
        return 0.5
    order = np.argsort(-chances, kind="stable")
    hits = np.cumsum(y[order])
    f1 = 2 * hits / (np.arange(1, len(y) + 1) + y.sum())
    best = int(f1.argmax())
    below = chances[order[best + 1]] if best + 1 < len(y) else 0.0
    return float((chances[order[best]] + below) / 2)


def _f1(sums: np.ndarray) -> tuple[float, float]:
    """Return micro and macro F1 of sums (3, labels): both, given, true; macro over tags that occur."""
    both, given, true = sums
    micro = float(2 * both.sum() / max(given.sum() + true.sum(), 1))
    each = 2 * both / np.maximum(given + true, 1)
    return micro, float(each[true > 0].mean()) if (true > 0).any() else 0.0
