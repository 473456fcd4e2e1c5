"""The learning curve as a drawing: what was measured, and how far more labels are expected to lead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from headstart.stages.report.charts import WIDTH, _dot, _drawing, _line, _text
from headstart.stages.report.markup import Markup, element, figure
from headstart.stages.report.measures import is_share, primary
from headstart.stages.report.wording import clean, count, decimal, mapping, number, records, share

NAMES = {True: "with the pretrained model", False: "from scratch"}
ROOM = 0.06
"""Share of the drawing's height that is left free above and below the curves."""


@final
@dataclass(frozen=True)
class _Point:
    labels: float
    score: float
    low: float
    high: float


@final
@dataclass(frozen=True)
class _Line:
    name: str
    mine: bool
    measured: Sequence[_Point]
    expected: Sequence[_Point]

    @property
    def kind(self) -> str:
        return "mine" if self.mine else "other"


WILDEST = 1e6
"""Scores beyond it are no measurements, and leave no room for others on an axis."""


@final
@dataclass(frozen=True)
class _Plane:
    """Numbers of labels across on a logarithmic axis, scores up."""

    first: float
    last: float
    low: float
    high: float
    left: float = 50.0
    top: float = 12.0
    wide: float = 316.0
    tall: float = 236.0

    def x(self, labels: float) -> float:
        return self.left + self.wide * math.log(max(labels, 1.0) / self.first) / math.log(self.last / self.first)

    def y(self, score: float) -> float:
        return self.top + self.tall * (1 - (score - self.low) / (self.high - self.low))

    def axes(self, name: str, percent: bool) -> list[Markup]:
        parts = []
        for labels in _round_numbers(self.first, self.last):
            parts.append(_line(self.x(labels), self.top, self.x(labels), self.top + self.tall, "grid"))
            parts.append(_text(self.x(labels), self.top + self.tall + 16, f"{labels:,}", "tick", "middle"))
        for step in range(5):
            score = self.low + step * (self.high - self.low) / 4
            parts.append(_line(self.left, self.y(score), self.left + self.wide, self.y(score), "grid"))
            shown = f"{100 * score:.4g}" if percent else f"{score:.2f}"
            parts.append(_text(self.left - 7, self.y(score) + 4, shown, "tick", "end"))
        middle = self.top + self.tall / 2
        parts.append(_text(self.left + self.wide / 2, self.top + self.tall + 34, "labels", "axis", "middle"))
        up = f"{name} (%)" if percent else name
        parts.append(_text(0, 0, up, "axis", "middle", transform=f"translate(12 {middle:.0f}) rotate(-90)"))
        return parts


def _round_numbers(first: float, last: float) -> list[int]:
    """Return at most six round numbers between two.

    >>> _round_numbers(40, 9_000)
    [100, 300, 1000, 3000]
    """
    found: list[int] = []
    for steps in ((1,), (1, 3), (1, 2, 5)):
        every = [step * 10**power for power in range(9) for step in steps]
        inside = [each for each in every if first <= each <= last]
        if len(inside) <= 6:
            found = inside
    return found


def learning_curve(mark: str, target: Mapping[str, Any]) -> Markup:
    """Return the figure of a target's learning curve with its sentence; nothing where none was measured."""
    curve = mapping(target.get("learning_curve"))
    lines = [line for each in records(curve.get("curves")) if (line := _read(each)).measured]
    if not lines:
        return Markup()
    key = primary(target)
    drawn = _draw(mark, lines, number(curve.get("labels")), "right" if is_share(key) else "R²", is_share(key))
    return figure("What would more labels bring?", drawn, clean(curve.get("sentence")))


def before_training(target: Mapping[str, Any]) -> Markup:
    """Return what was said of the network and these rows before training; nothing where nothing was."""
    mismatch = mapping(target.get("mismatch"))
    said = clean(mismatch.get("sentence"))
    return (
        element("p", element("b", "Before training: "), said, " ", clean(mismatch.get("basis"))) if said else Markup()
    )


def _read(each: Mapping[str, Any]) -> _Line:
    pretrained = bool(each.get("pretrained"))
    parts = [_points(each.get(part)) for part in ("points", "forecast")]
    return _Line(NAMES[pretrained], pretrained, *parts)


def _points(table: Any) -> list[_Point]:
    found = []
    for each in records(table):
        labels, score = number(each.get("labels")), number(each.get("score"))
        if labels is None or score is None or labels < 1:
            continue
        low, high = number(each.get("low")), number(each.get("high"))
        point = _Point(labels, score, score if low is None else low, score if high is None else high)
        if max(abs(point.score), abs(point.low), abs(point.high)) <= WILDEST:
            found.append(point)
    return found


def _draw(mark: str, lines: Sequence[_Line], today: float | None, name: str, percent: bool) -> Markup:
    form = share if percent else decimal
    every = [point for line in lines for point in (*line.measured, *line.expected)]
    first, last = min(point.labels for point in every), max(point.labels for point in every)
    low, high = min(point.low for point in every), max(point.high for point in every)
    room = ROOM * max(high - low, 0.02)
    plane = _Plane(first, max(last, 2 * first), low - room, high + room)
    parts = plane.axes(name, percent)
    if today is not None and first <= today <= last:
        parts.append(_line(plane.x(today), plane.top, plane.x(today), plane.top + plane.tall, "wanted"))
        parts.append(_text(plane.x(today) - 5, plane.top + plane.tall - 7, "today", "tick halo", "end"))
    for line in sorted(lines, key=lambda each: each.mine):
        parts += _one(plane, line, form)
    words = "; ".join(
        f"{line.name}: " + ", ".join(f"{count(point.labels)} labels {form(point.score)}" for point in line.measured)
        + "".join(f", {count(point.labels)} labels {form(point.score)} expected" for point in line.expected[-1:])
        for line in lines
    )  # fmt: skip
    return _drawing(f"{mark}-curve", "What would more labels bring?", words, WIDTH, plane.top + plane.tall + 44, parts)


def _one(plane: _Plane, line: _Line, form: Any) -> list[Markup]:
    parts = []
    if line.expected:
        edge = [(point.labels, point.high) for point in line.expected]
        edge += [(point.labels, point.low) for point in reversed(line.expected)]
        parts.append(element("polygon", points=_path(plane, edge), class_=f"band {line.kind}"))
        path = _path(plane, [(point.labels, point.score) for point in line.expected])
        parts.append(element("polyline", points=path, class_=f"curve expected {line.kind}"))
    path = _path(plane, [(point.labels, point.score) for point in line.measured])
    parts.append(element("polyline", points=path, class_=f"curve {line.kind}"))
    for point in line.measured:
        x = plane.x(point.labels)
        parts.append(_line(x, plane.y(point.low), x, plane.y(point.high), "whisker"))
        parts.append(_dot(x, plane.y(point.score), 3.5, f"{count(point.labels)} labels: {form(point.score)}"))
    end = line.measured[-1]
    below = 20 if not line.mine else -12
    parts.append(_text(plane.x(end.labels), plane.y(end.score) + below, line.name, f"label halo {line.kind}", "end"))
    return parts


def _path(plane: _Plane, points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{plane.x(labels):.1f},{plane.y(score):.1f}" for labels, score in points)
