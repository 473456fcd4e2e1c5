"""What a report says of one target, in words and figures that page, card and terminal share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from headstart.stages.report.wording import (
    bounds,
    count,
    decimal,
    interval,
    mapping,
    number,
    points,
    records,
    share,
    signed_interval,
)

_SHARES = {
    "accuracy": ("Accuracy", "share of rows answered right"),
    "macro_f1": ("Macro-F1", "balance of precision and recall; every class counts the same"),
    "micro_f1": ("Micro-F1", "balance of precision and recall; every label given counts the same"),
    "precision": ("Precision", "of the answers that name a class, the share that is right; mean over classes"),
    "recall": ("Recall", "of a class's rows, the share that is found; mean over classes"),
    "interval_coverage": ("Interval coverage", "share of true values inside the interval given with each answer"),
    "ece": ("Calibration error", "mean distance between stated confidence and share right (ECE)"),
}
_NUMBERS = {
    "r2": ("R²", "1 is perfect, 0 is no better than the mean"),
    "mae": ("Mean absolute error", "in the target's own unit"),
    "rmse": ("Root mean squared error", "in the target's own unit; large errors count more"),
}
_TAGS = {
    "accuracy": ("Exact sets", "share of rows whose whole set of tags is right"),
    "precision": ("Precision", "of the tags given, the share that is right"),
    "recall": ("Recall", "of the true tags, the share that is given"),
}
_ORDER = ("accuracy", "r2", "mae", "rmse", "interval_coverage", "macro_f1", "micro_f1", "precision", "recall", "ece")


@final
@dataclass(frozen=True)
class Measure:
    """One figure with its 95 % interval, beside the same figure of the baselines; all as texts, empty where missing."""

    key: str
    name: str
    meaning: str
    value: str
    interval: str
    scratch: str
    majority: str


@final
@dataclass(frozen=True)
class Tile:
    """A key figure: its name, its value, and what to know about it."""

    name: str
    value: str
    note: str = ""


def primary(target: Mapping[str, Any]) -> str:
    """Return the name of the measure by which models of this target are compared."""
    return "r2" if number(target.get("r2")) is not None and number(target.get("accuracy")) is None else "accuracy"


def is_share(key: str) -> bool:
    """Return whether a measure is shown in per cent."""
    return key not in _NUMBERS


def named(key: str, target: Mapping[str, Any]) -> tuple[str, str]:
    """Return a measure's name and meaning for a target's task."""
    own = _TAGS if target.get("task") == "tag" else {}
    return own.get(key) or _SHARES.get(key) or _NUMBERS[key]


def baseline(target: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the figures of a baseline, `majority` or `scratch`; an empty mapping where there are none."""
    return mapping(mapping(target.get("baselines")).get(name))


def measures(target: Mapping[str, Any]) -> list[Measure]:
    """Return every figure that the target has, most important first."""
    found = []
    for key in _ORDER:
        if number(target.get(key)) is None:
            continue
        form = share if is_share(key) else decimal
        found.append(
            Measure(
                key,
                *named(key, target),
                value=form(target[key]),
                interval=interval(target.get(f"{key}_ci"), is_share(key)),
                scratch=form(baseline(target, "scratch").get(key)),
                majority=form(baseline(target, "majority").get(key)),
            )
        )
    return found


def gain(target: Mapping[str, Any]) -> tuple[str, str]:
    """Return the gain over training from scratch and its interval; both empty where there was no such baseline."""
    percent = is_share(primary(target))
    words = points(target.get("gain_over_scratch"), percent)
    return (words if percent else words and f"{words} R²"), signed_interval(target.get("gain_over_scratch_ci"), percent)


def standing(target: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return a kind (`good`, `plain`, `bad`) and a few words on how the target does against the baselines."""
    if not beats_majority(target):
        return "bad", "Not clearly better than the most common answer"
    if target.get("method") == "scratch":
        return "plain", "Trained from scratch: no gain from a pretrained model"
    over = bounds(target.get("gain_over_scratch_ci"))
    if over is None:
        return None
    if over[0] > 0:
        return "good", "The pretrained model helped"
    if over[1] < 0:
        return "bad", "The pretrained model hurt"
    return "plain", "No clear gain over training from scratch"


def beats_majority(target: Mapping[str, Any]) -> bool:
    """Return whether a target is answered clearly better than by one constant answer, as far as the report says."""
    over = bounds(target.get("gain_over_majority_ci"))
    if over is not None:
        return over[0] > 0
    key = primary(target)
    own, constant = bounds(target.get(f"{key}_ci")), number(baseline(target, "majority").get(key))
    return own is None or constant is None or own[0] > constant


def automation(target: Mapping[str, Any]) -> Tile | None:
    """Return the share of rows that need no person, or None where the target has no such figure."""
    rate = number(target.get("automation_rate"))
    if rate is None:
        return None
    wanted = number(target.get("precision_target"))
    name = f"Automated at {share(wanted)} precision" if wanted is not None else "Automated"
    if not rate:
        return Tile(name, share(rate), "no confidence is high enough to promise it")
    reached = share(target.get("automation_precision"))
    notes = [interval(target.get("automation_rate_ci"))]
    if reached:
        notes.append(f"{reached} of these right {interval(target.get('automation_precision_ci'))}".strip())
    return Tile(name, share(rate), "; ".join(filter(None, notes)))


def tiles(target: Mapping[str, Any]) -> list[Tile]:
    """Return the target's key figures."""
    found = []
    first = next((each for each in measures(target) if each.key == primary(target)), None)
    if first:
        rows = count(target.get("rows"))
        on = f"on {rows} held-out rows" if rows else ""
        found.append(Tile(first.name, first.value, " ".join(filter(None, [first.interval, on]))))
    over, ends = gain(target)
    if over and target.get("method") != "scratch":
        found.append(Tile("Gain over training from scratch", over, ends))
    automated = automation(target)
    return found + ([automated] if automated else [])


def naive(target: Mapping[str, Any]) -> str:
    """Return a sentence on what a random split would have claimed, or an empty text."""
    key = primary(target)
    claimed, honest = number(target.get(f"random_split_{key}")), number(target.get(f"grouped_split_{key}"))
    if claimed is None or (honest is not None and claimed - honest < 0.02):
        return ""
    form = share if is_share(key) else decimal
    name = named(key, target)[0]
    own = f"{form(honest)} for the same model" if honest is not None else f"{form(target.get(key))} here"
    return (
        f"A random split of these rows would have claimed {name} {form(claimed)}, where keeping near twins together "
        f"gives {own}: a model that has seen a row's twin only has to remember it."
    )


def out_of_scope(target: Mapping[str, Any]) -> str:
    """Return a sentence on rows whose label training never saw, or an empty text."""
    scope = mapping(target.get("out_of_scope"))
    if number(scope.get("rows")) is None:
        return ""
    said = f"{count(scope['rows'])} rows have a label that training never saw."
    if share(scope.get("rejected")):
        said += f" {share(scope['rejected'])} of them are marked unknown"
        wrongly = share(scope.get("in_scope_rejected"))
        said += f", at the price of {wrongly} of the other rows." if wrongly else "."
    known = decimal(scope.get("auroc"))
    return said + (
        f" They are told from known rows with AUROC {known} (0.5 is guessing, 1 is perfect)." if known else ""
    )


def classes(target: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of the per-class table, weakest F1 first, classes without test rows last."""
    rows = records(target.get("per_class"))

    def weakness(row: Mapping[str, Any]) -> tuple[bool, float]:
        f1 = number(row.get("f1"))
        return (not number(row.get("rows")) or f1 is None, f1 or 0.0)

    return sorted(rows, key=weakness)


def majority_name(target: Mapping[str, Any]) -> str:
    """Return what the constant answer is called."""
    return "Most common answer" if is_share(primary(target)) else "Always the mean"
