"""Choose one label of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np

from headstart.core import metrics
from headstart.core.dataset import as_text
from headstart.core.errors import DataError, listed
from headstart.core.task import Task

SCOPE_SHARE = 0.05
"""Share of held-out in-scope rows that the out-of-scope threshold gives up."""


@final
@dataclass(frozen=True)
class Classify(Task):
    """One label of several.

    A head's scores are logits, (n, labels). Their greatest is also how familiar the row is: below `familiar`
    the row counts as unknown (out of scope).

    Args:
        target: the column.
        labels: in the order of the scores.
        prior: each label's share of the training rows.
        temperature: scores are divided by it before the softmax (Guo et al., 2017).
        threshold: confidence from which a row in scope may be automated; None where none could be certified.
        familiar: the least greatest score of a row that is in scope; None where it was not measured.
        precision: the share of right answers that `threshold` was certified for.
    """

    target: str
    labels: tuple[str, ...]
    prior: tuple[float, ...]
    temperature: float = 1.0
    threshold: float | None = None
    familiar: float | None = None
    precision: float = 0.95

    @classmethod
    def claims(cls, cells: Sequence[Any]) -> int:
        """Return 1: any column can be read as labels, and other tasks may fit better."""
        return 1

    @classmethod
    def of(cls, target: str, cells: Sequence[Any]) -> Classify:
        """Learn the labels and their shares."""
        labels, counts = np.unique([as_text(cell).strip() for cell in cells], return_counts=True)
        if len(labels) < 2:
            raise DataError(
                f"The target '{target}' has only one class: {listed(labels)}.",
                allowed="At least two classes are needed, with two rows or more each.",
                hint="Add rows of another class, or name another column with --target.",
            )
        if len(labels) > max(20, 0.5 * counts.sum()):
            raise DataError(
                f"The target '{target}' has {len(labels):,} different values in {counts.sum():,} rows: it looks like "
                "an identifier or free text, not like labels.",
                hint="Name another column with --target.",
            )
        shares = counts / counts.sum()
        return cls(target, tuple(str(label) for label in labels), tuple(float(share) for share in shares))

    @property
    def width(self) -> int:
        """One score for each label."""
        return len(self.labels)

    def spec(self) -> dict[str, Any]:
        """Return its fields as plain JSON data."""
        return {"name": "classify", **asdict(self), "labels": list(self.labels), "prior": list(self.prior)}

    @classmethod
    def load(cls, spec: Mapping[str, Any]) -> Classify:
        """Make the task from its spec."""
        fields = {name: value for name, value in spec.items() if name != "name"}
        return cls(**{**fields, "labels": tuple(spec["labels"]), "prior": tuple(spec["prior"])})

    def encode(self, cells: Sequence[Any]) -> np.ndarray:
        """Return class numbers (n,) int64; -1 for a label that training never saw."""
        number = {label: each for each, label in enumerate(self.labels)}
        return np.array([number.get(as_text(cell).strip(), -1) for cell in cells], dtype=np.int64)

    def calibrate(self, scores: np.ndarray, y: np.ndarray, precision: float) -> Classify:
        """Choose temperature, automation threshold and scope threshold on held-out scores (n, labels)."""
        from scipy.optimize import minimize_scalar

        rows = np.arange(len(y))

        def loss(log_temperature: float) -> float:
            chance = metrics.softmax(scores / np.exp(log_temperature))[rows, y]
            return float(-np.log(np.maximum(chance, 1e-12)).mean())

        found = minimize_scalar(loss, bounds=(-6.0, 6.0), method="bounded", options={"xatol": 1e-3})
        tempered = replace(self, temperature=float(np.exp(found.x)), precision=precision)
        tempered = replace(tempered, familiar=float(np.quantile(scores.max(axis=1), SCOPE_SHARE)))
        chances = tempered.calibrated(scores)
        right = chances.argmax(axis=1) == y
        # What looks out of scope is never automated, so the promise is made for the rest only.
        inside = ~tempered._unknown(scores)
        threshold = metrics.certified_threshold(chances.max(axis=1)[inside], right[inside], precision)
        return replace(tempered, threshold=threshold)

    def without_signal(self) -> Classify:
        """Return this task for constant scores."""
        return replace(self, temperature=1.0, threshold=None, familiar=None)

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities (n, labels)."""
        return metrics.softmax(scores / self.temperature)

    def _automated(self, scores: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        if self.threshold is None:
            return np.zeros(len(scores), dtype=bool)
        return (confidence >= self.threshold) & ~self._unknown(scores)

    def _unknown(self, scores: np.ndarray) -> np.ndarray:
        return (scores.max(axis=1) < self.familiar) if self.familiar is not None else np.zeros(len(scores), dtype=bool)

    def decode(self, scores: np.ndarray) -> dict[str, list[Any]]:
        """Return label, confidence, whether the row may be automated, and whether it looks out of scope."""
        chances = self.calibrated(scores)
        confidence = chances.max(axis=1)
        return {
            self.target: [self.labels[each] for each in chances.argmax(axis=1)],
            f"{self.target}_confidence": [round(float(each), 4) for each in confidence],
            f"{self.target}_automated": self._automated(scores, confidence).tolist(),
            f"{self.target}_unknown": self._unknown(scores).tolist(),
        }

    def answer_schema(self) -> dict[str, dict[str, Any]]:
        """Return JSON Schema for the four answer columns."""
        labels = {"enum": list(self.labels)} if len(self.labels) <= 200 else {}
        when = "no threshold was certified" if self.threshold is None else f"confidence >= {self.threshold:.3f}"
        return {
            self.target: {"type": "string", **labels, "description": "The most probable label."},
            f"{self.target}_confidence": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "description": "Calibrated probability that the label is right.",
            },
            f"{self.target}_automated": {
                "type": "boolean",
                "description": f"Whether no person is needed, at {self.precision:.0%} precision: {when}.",
            },
            f"{self.target}_unknown": {
                "type": "boolean",
                "description": "Whether the row looks unlike everything this model was trained on (out of scope).",
            },
        }

    def correct(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return 1.0 where the most probable label is the true one."""
        return (scores.argmax(axis=1) == y).astype(np.float64)

    def gain(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return log p(y) - log prior(y) for rows whose label is known to the model."""
        known = np.flatnonzero(y >= 0)
        chances = self.calibrated(scores[known])[np.arange(len(known)), y[known]]
        return np.log(np.maximum(chances, 1e-6)) - np.log(np.array(self.prior)[y[known]])

    def majority(self) -> np.ndarray:
        """Return the log prior as constant scores."""
        return np.log(np.maximum(np.array(self.prior), 1e-9)).astype(np.float32)

    def metrics(self, scores: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Return accuracy, macro measures, calibration, automation and tables, with 95 % intervals."""
        chances = self.calibrated(scores)
        answer, confidence = chances.argmax(axis=1), chances.max(axis=1)
        right = answer == y
        known = y >= 0
        result: dict[str, Any] = {"rows": len(y), "accuracy": float(right.mean())}
        result["accuracy_ci"] = metrics.wilson(right.sum(), len(y))
        if known.any():
            counts = metrics.confusion(y[known], answer[known], self.width)
            intervals = metrics.macro_intervals(counts)
            for name, value in metrics.macro(counts).items():
                key = "macro_f1" if name == "f1" else name
                result |= {key: float(value), f"{key}_ci": intervals[name]}
            result |= self._tables(counts)
        result["ece"] = metrics.calibration_error(confidence, right)
        result["ece_ci"] = metrics.calibration_error_interval(confidence, right)
        automated = self._automated(scores, confidence)
        result |= metrics.automation(confidence, automated, right, self.precision, self.threshold)
        result["reliability"] = metrics.reliability(confidence, right)
        if not known.all():
            result["out_of_scope"] = self._scope(scores, known)
            result["in_scope"] = {
                "rows": int(known.sum()),
                "accuracy": float(right[known].mean()) if known.any() else None,
            }
        return result

    def _scope(self, scores: np.ndarray, known: np.ndarray) -> dict[str, Any]:
        unknown, best = self._unknown(scores), scores.max(axis=1)
        return {
            "rows": int((~known).sum()),
            "auroc": metrics.auroc(best[known], best[~known]) if known.any() else None,
            "rejected": float(unknown[~known].mean()),
            "in_scope_rejected": float(unknown[known].mean()) if known.any() else None,
        }

    def _tables(self, counts: np.ndarray) -> dict[str, Any]:
        truths, answers, right = counts.sum(axis=1), counts.sum(axis=0), np.diagonal(counts)
        per_class = [
            {
                "label": label,
                "rows": int(truths[k]),
                "precision": float(right[k] / answers[k]) if answers[k] else None,
                "precision_ci": metrics.wilson(right[k], answers[k]) if answers[k] else None,
                "recall": float(right[k] / truths[k]) if truths[k] else None,
                "recall_ci": metrics.wilson(right[k], truths[k]) if truths[k] else None,
                "f1": float(2 * right[k] / (truths[k] + answers[k])) if truths[k] + answers[k] else None,
            }
            for k, label in enumerate(self.labels)
        ]
        wrong = counts - np.diag(right)
        worst = [each for each in np.argsort(-wrong, axis=None, kind="stable")[:20] if wrong.flat[each]]
        tables: dict[str, Any] = {
            "per_class": per_class,
            "confused": [
                {
                    "truth": self.labels[each // self.width],
                    "answer": self.labels[each % self.width],
                    "rows": int(wrong.flat[each]),
                }
                for each in worst
            ],
        }
        if self.width <= 60:
            tables["confusion"] = {"labels": list(self.labels), "counts": counts.tolist()}
        return tables
