"""Judge heads on held-out rows, and say in words what the figures mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.core import metrics
from headstart.core.arrays import Arrays
from headstart.core.task import Task
from headstart.runtime import Target

SURE = 2.576
"""Standard errors by which a likelihood gain must exceed 0 to be called a signal (99 %)."""


def has_signal(task: Task, scores: np.ndarray, y: np.ndarray) -> bool:
    """Return whether held-out scores explain the labels better than the labels' shares do, beyond chance."""
    gain = task.gain(scores, y)
    if len(gain) < 2:
        return False
    return float(gain.mean()) > SURE * float(gain.std(ddof=1)) / np.sqrt(len(gain))


def judge(target: Target, features: Arrays, y: np.ndarray) -> dict[str, Any]:
    """Return the report of one target on held-out rows: its metrics beside the majority's and the baseline's."""
    task = target.task
    scores = target.head.scores(features)
    report = {"task": task.spec()["name"], **task.metrics(scores, y)}
    constant = np.tile(task.majority(), (len(y), 1))
    report["baselines"] = {"majority": _brief(task, constant, y)}
    if target.baseline is not None:
        baseline = target.baseline.scores(features)
        report["baselines"]["scratch"] = _brief(task, baseline, y)
        difference = task.correct(scores, y) - task.correct(baseline, y)
        report["gain_over_scratch"] = float(difference.mean())
        report["gain_over_scratch_ci"] = metrics.mean_interval(difference)
    over = task.correct(scores, y) - task.correct(constant, y)
    report["gain_over_majority"] = float(over.mean())
    report["gain_over_majority_ci"] = metrics.mean_interval(over)
    return report


def _brief(task: Task, scores: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    full = task.metrics(scores, y)
    return {name: full[name] for name in ("accuracy", "accuracy_ci", "macro_f1", "r2", "r2_ci", "mae") if name in full}


def points(value: float) -> str:
    """Return a difference of shares in points with its sign.

    >>> points(0.048)
    '+4.8'
    """
    return f"{100 * value:+.1f}"


def verdict(name: str, report: dict[str, Any], *, signal: bool, pretrained: bool) -> str:
    """Return one or two sentences on one target."""
    if not signal:
        return (
            f"{name}: no signal in these labels: held-out rows are answered no better than by the labels' shares "
            "alone. Do not use this model; look at how the labels came about."
        )
    primary = "r2" if "r2" in report else "accuracy"
    low, high = report["gain_over_majority_ci"]
    what = f"{report[primary]:.1%}" if primary == "accuracy" else f"R² {report[primary]:.3f}"
    unit = "points" if primary == "accuracy" else "points of R²"
    first = (
        f"{name}: {what} on held-out rows, {points(report['gain_over_majority'])} {unit} over the most common answer"
    )
    if low <= 0:
        first += " (not clearly better; see macro-F1)"
    if "gain_over_scratch" not in report or not pretrained:
        return first + "."
    gain, (low, high) = report["gain_over_scratch"], report["gain_over_scratch_ci"]
    interval = f"[{points(low)}, {points(high)}]"
    if low > 0:
        return f"{first}. The pretrained model helped: {points(gain)} {unit} {interval} over training from scratch."
    if high < 0:
        return f"{first}. The pretrained model hurt: {points(gain)} {unit} {interval}; use --method scratch."
    return (
        f"{first}. No clear gain over training from scratch ({points(gain)} {unit} {interval}): "
        "use the cheaper model, --method scratch."
    )


def naive_verdict(report: dict[str, Any]) -> str:
    """Return a sentence on what a random split, which lets twins leak, would have claimed."""
    for primary in ("accuracy", "r2"):
        naive, honest = report.get(f"random_split_{primary}"), report.get(f"grouped_split_{primary}")
        if naive is not None and honest is not None and naive - honest > 0.02:
            return (
                f" A random split would have claimed {points(naive - honest)} points more ({naive:.1%} instead of "
                f"{honest:.1%} for the from-scratch model), because many rows have near twins."
            )
    return ""
