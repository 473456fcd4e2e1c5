"""Smaller forms of a model: what each gives and takes, as a table, a drawing, and lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from headstart.stages.report.charts import WIDTH, _dot, _drawing, _line, _text
from headstart.stages.report.markup import Markup, element, figure, joined, table
from headstart.stages.report.taught import NAMES
from headstart.stages.report.wording import (
    bounds,
    clean,
    columns,
    count,
    decimal,
    interval,
    mapping,
    milliseconds,
    number,
    records,
    share,
    size,
)

CAPTION = (
    "All forms were timed one after the other in each of several rounds, and judged on the same rows. Points lost "
    "stand beside the bound that they are below with 95 % confidence."
)
HEADS = [
    "form",
    "what became of it",
    "right",
    "points lost",
    "same answers",
    "one row",
    "95 % within",
    "rows/s",
    "size",
    "memory",
]
SHARES = ("accuracy", "map", "wer", "mrr")
"""Measures that are shares of 1."""
ROOM = 0.08
LONGEST = 32
"""Letters of a form's name."""


@final
@dataclass(frozen=True)
class _Spot:
    """One form in the drawing."""

    name: str
    rate: float
    right: float
    ends: tuple[float, float]
    mine: bool


def section(report: Mapping[str, Any]) -> Markup:
    """Return the page's section; nothing where the model was not compressed."""
    found = mapping(report.get("compressed"))
    trials = records(found.get("trials"))
    if not trials:
        return Markup()
    rows = [[_name(each), clean(each.get("why")), *_cells(each)] for each in trials]
    made = [
        element("h2", "Smaller forms", id="compressed"),
        element("p", clean(found.get("verdict"))),
        table(CAPTION, _heads(trials), rows, texts=2),
        figure("What does speed cost?", drawn, "Higher and further right is better.")
        if (drawn := plot(trials))
        else "",
    ]
    return element("section", joined(made), aria_labelledby="compressed")


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table as lines of text, and the verdict."""
    trials = records(found.get("trials"))
    heads = _heads(trials)
    del heads[1]
    rows = [
        [("✓ " if each.get("chosen") else "  ") + clean(each.get("name"), LONGEST), *_cells(each)] for each in trials
    ]
    wide = [max(columns(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    for row in [heads, *rows]:
        padded = [" " * (wide[place] - columns(cell)) for place, cell in enumerate(row)]
        yield "  ".join(
            cell + padding if not place else padding + cell
            for place, (cell, padding) in enumerate(zip(row, padded, strict=True))
        ).rstrip()
    yield ""
    for each in trials:
        if each.get("why"):
            yield f"{clean(each.get('name'))}: {clean(each['why'])}"
    yield ""
    yield clean(found.get("verdict"))
    if found.get("out"):
        yield f"\nNext:  headstart predict {clean(found['out'])} …"


def _heads(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns' heads: what is told of answers, and what is lost, depends on how they are judged."""
    metrics = [each.get("metric") for trial in trials for each in mapping(trial.get("accuracy")).values()]
    name = NAMES.get(str(metrics[0]), "") if metrics and metrics[0] != "accuracy" else ""
    unit = next((clean(each.get("unit")) for each in trials if each.get("unit")), "points")
    return [name if each == "right" and name else each.replace("points", unit) for each in HEADS]


def _name(trial: Mapping[str, Any]) -> object:
    name = clean(trial.get("name"))
    return element("b", name, " ✓") if trial.get("chosen") else name


def _cells(trial: Mapping[str, Any]) -> list[str]:
    speed = mapping(trial.get("speed"))
    return [
        " / ".join(_right(each) for each in mapping(trial.get("accuracy")).values()),
        " / ".join(_lost(each) for each in mapping(trial.get("drop")).values()),
        share(trial.get("agreement")),
        milliseconds(speed.get("p50_ms")),
        milliseconds(speed.get("p95_ms")),
        count(speed.get("rows_per_s")),
        size(trial.get("size")) if trial.get("size") else "",
        size(trial.get("memory")) if trial.get("memory") else "",
    ]


def _right(each: Any) -> str:
    known, percent = mapping(each), mapping(each).get("metric") in SHARES
    value = share(known.get("value")) if percent else decimal(known.get("value"))
    return f"{value} {interval(known.get('ci'), percent)}".strip()


def _lost(each: Any) -> str:
    lost, bound = number(mapping(each).get("points")), number(mapping(each).get("bound"))
    return "" if lost is None or bound is None else f"{lost:+.2f} (< {bound:.2f})"


def plot(trials: Sequence[Mapping[str, Any]]) -> Markup:
    """Return accuracy against throughput as a drawing; nothing where fewer than two forms were judged."""
    spots = [spot for each in trials if (spot := _spot(each)) is not None]
    if len(spots) < 2:
        return Markup()
    left, top, wide, tall = 50.0, 12.0, 316.0, 236.0
    most = 1.25 * max(each.rate for each in spots)
    low, high = min(each.ends[0] for each in spots), max(each.ends[1] for each in spots)
    room = ROOM * max(high - low, 0.02)
    low, high = low - room, high + room

    def at(rate: float, right: float) -> tuple[float, float]:
        return left + wide * rate / most, top + tall * (1 - (right - low) / (high - low))

    parts = []
    for step in range(5):
        rate, right = step * most / 4, low + step * (high - low) / 4
        x, y = at(rate, right)
        parts += [_line(x, top, x, top + tall, "grid"), _line(left, y, left + wide, y, "grid")]
        parts.append(_text(x, top + tall + 16, f"{rate:,.0f}", "tick", "middle"))
        parts.append(_text(left - 7, y + 4, f"{100 * right:.4g}", "tick", "end"))
    parts.append(_text(left + wide / 2, top + tall + 34, "rows a second", "axis", "middle"))
    for each in spots:
        x, y = at(each.rate, each.right)
        parts.append(_line(x, at(each.rate, each.ends[0])[1], x, at(each.rate, each.ends[1])[1], "whisker"))
        parts.append(_dot(x, y, 5, f"{each.name}: {share(each.right)} at {count(each.rate)} rows a second"))
        parts.append(_text(x + 8, y - 6, each.name, "label halo mine" if each.mine else "label halo"))
    words = "; ".join(f"{each.name}: {share(each.right)} at {count(each.rate)} rows a second" for each in spots)
    return _drawing("compressed-plot", "What does speed cost?", words, WIDTH, top + tall + 44, parts)


def _spot(trial: Mapping[str, Any]) -> _Spot | None:
    found = [mapping(each) for each in mapping(trial.get("accuracy")).values()]
    rate = number(mapping(trial.get("speed")).get("rows_per_s"))
    values = [(number(each.get("value")), bounds(each.get("ci"))) for each in found]
    if rate is None or not values or any(value is None or ends is None for value, ends in values):
        return None
    value, ends = values[0]
    return _Spot(clean(trial.get("name"), LONGEST), rate, value or 0.0, ends or (0.0, 0.0), trial.get("chosen") is True)
