"""Charts as inline SVG: narrow enough for a phone, coloured by the page's style sheet, and told in words too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from headstart.core.metrics import wilson
from headstart.stages.report.markup import Markup, element, joined
from headstart.stages.report.wording import clean, decimal, interval, number, records, share

WIDTH = 380
"""Units across; about the pixels that a phone has."""
CLASSES = 25
"""Classes that a confusion heatmap shows at most."""
LOWEST = (0.95, 0.9, 0.8, 0.6, 0.5, 0.0)
"""Where an axis of precision may begin."""


@final
@dataclass(frozen=True)
class Bar:
    """One bar: what it is, its value and 95 % interval, and whether it is the one that the chart is about."""

    label: str
    value: float
    ends: tuple[float, float] | None = None
    mine: bool = False


@final
@dataclass(frozen=True)
class _Plane:
    """A square of data coordinates on the drawing: x from 0 to 1, y from `low` to 1."""

    low: float = 0.0
    left: float = 50.0
    top: float = 12.0
    wide: float = 316.0
    high: float = 236.0

    def x(self, value: float) -> float:
        return self.left + self.wide * min(max(value, 0.0), 1.0)

    def y(self, value: float) -> float:
        return self.top + self.high * (1 - (min(max(value, self.low), 1.0) - self.low) / (1 - self.low))

    def axes(self, across: str, up: str) -> Markup:
        parts = []
        for step in range(5):
            part = step / 4
            x, y = self.x(part), self.y(self.low + part * (1 - self.low))
            shown = f"{100 * (self.low + part * (1 - self.low)):.4g}"
            parts += [
                _line(x, self.top, x, self.top + self.high, "grid"),
                _line(self.left, y, self.left + self.wide, y, "grid"),
                _text(x, self.top + self.high + 16, f"{100 * part:.0f}", "tick", "middle"),
                _text(self.left - 7, y + 4, shown, "tick", "end"),
            ]
        bottom, middle = self.top + self.high + 34, self.top + self.high / 2
        parts.append(_text(self.left + self.wide / 2, bottom, f"{across} (%)", "axis", "middle"))
        parts.append(_text(0, 0, f"{up} (%)", "axis", "middle", transform=f"translate(12 {middle:.0f}) rotate(-90)"))
        return joined(parts)

    @property
    def height(self) -> float:
        return self.top + self.high + 44


def bars(name: str, title: str, shown: Sequence[Bar], *, percent: bool = True) -> Markup:
    """Return horizontal bars from zero, with whiskers for their 95 % intervals.

    Args:
        name: unique on the page.
        shown: at least one bar; values are shares, or plain numbers up to 1 (R²) where `percent` is false.
    """
    least = min([0.0, *(bar.value for bar in shown), *(bar.ends[0] for bar in shown if bar.ends)])
    low, high = max(math.floor(4 * least) / 4, -1.0), 1.0
    left, wide, step = 8.0, WIDTH - 16.0, 46.0

    def x(value: float) -> float:
        return left + wide * (min(max(value, low), high) - low) / (high - low)

    def said(bar: Bar) -> str:
        value = share(bar.value) if percent else decimal(bar.value)
        return f"{value} {interval(bar.ends, percent)}".strip()

    foot = step * len(shown) + 10
    parts: list[Markup] = []
    for place in range(5):
        value = low + place * (high - low) / 4
        anchor = "start" if place == 0 else "end" if place == 4 else "middle"
        parts.append(_line(x(value), 6, x(value), foot, "grid"))
        parts.append(_text(x(value), foot + 15, f"{100 * value:.0f} %" if percent else f"{value:.2f}", "tick", anchor))
    for place, bar in enumerate(shown):
        y, kind = 20 + step * place, "mine" if bar.mine else "other"
        start, end = sorted((x(0), x(bar.value)))
        # A halo in the page's colour keeps words readable where grid lines pass behind them.
        parts.append(_text(left, y, clean(bar.label, 34), f"label halo {kind}"))
        parts.append(_text(left + wide, y, said(bar), f"label halo {kind}", "end"))
        parts.append(_box(start, y + 6, max(end - start, 1.0), 13, f"bar {kind}", rx=2))
        if bar.ends:
            parts.append(_whisker(x(bar.ends[0]), y + 12.5, x(bar.ends[1]), y + 12.5))
    words = "; ".join(f"{bar.label}: {said(bar)}" for bar in shown)
    return _drawing(name, title, words, WIDTH, foot + 22, parts)


def reliability(name: str, table: Any) -> Markup:
    """Return how often answers were right for each level of confidence, with 95 % intervals; nothing without rows."""
    bins = [
        (confidence, accuracy, number(each.get("rows")) or 0.0)
        for each in records(table)
        if (confidence := number(each.get("confidence"))) is not None
        and (accuracy := number(each.get("accuracy"))) is not None
    ]
    if not bins:
        return Markup()
    plane, most = _Plane(), max(rows for _, _, rows in bins) or 1.0
    parts = [plane.axes("confidence", "right"), _line(plane.x(0), plane.y(0), plane.x(1), plane.y(1), "ideal")]
    for confidence, accuracy, rows in bins:
        x, y = plane.x(confidence), plane.y(accuracy)
        if rows:
            low, high = wilson(accuracy * rows, int(rows))
            parts.append(_line(x, plane.y(low), x, plane.y(high), "whisker"))
        about = f"confidence {share(confidence)}: {share(accuracy)} right of {rows:,.0f} answers"
        parts.append(_dot(x, y, 3 + 6 * math.sqrt(rows / most), about))
    words = "; ".join(f"confidence {share(c)}: {share(a)} right" for c, a, _ in bins)
    return _drawing(name, "Is the confidence honest?", words, WIDTH, plane.height, parts)


def automation(name: str, target: Mapping[str, Any]) -> Markup:
    """Return precision against the share of rows that are automated, with the chosen point; nothing without a curve."""
    curve = [
        (rate, precision)
        for each in records(target.get("automation_curve"))
        if (rate := number(each.get("rate"))) is not None and (precision := number(each.get("precision"))) is not None
    ]
    if not curve:
        return Markup()
    wanted = number(target.get("precision_target"))
    least = min([precision for _, precision in curve] + ([wanted] if wanted is not None else []))
    plane = _Plane(low=next((low for low in LOWEST if low <= least - 0.004), 0.0))
    parts = [plane.axes("rows handled without a person", "right among them")]
    if wanted is not None:
        parts.append(_line(plane.x(0), plane.y(wanted), plane.x(1), plane.y(wanted), "wanted"))
        parts.append(_text(plane.x(0) + 6, plane.y(wanted) + 14, f"wanted: {share(wanted)}", "tick halo"))
    path = " ".join(f"{plane.x(rate):.1f},{plane.y(precision):.1f}" for rate, precision in curve)
    parts.append(element("polyline", points=path, class_="curve"))
    words = "; ".join(f"{share(rate)} of rows: {share(precision)} right" for rate, precision in curve)
    chosen, reached = number(target.get("automation_rate")), number(target.get("automation_precision"))
    if chosen and reached is not None:
        about = f"{share(chosen)} of rows automated, {share(reached)} of them right"
        # The word goes to the side that has room for it.
        side, shift = ("end", -10) if chosen > 0.6 else ("start", 10)
        parts.append(_dot(plane.x(chosen), plane.y(reached), 6, about))
        parts.append(_text(plane.x(chosen) + shift, plane.y(reached) - 9, "chosen", "label halo mine", side))
        words = f"Chosen: {about}. {words}"
    return _drawing(name, "How much can be automated?", words, WIDTH, plane.height, parts)


def confusion(name: str, table: Any) -> tuple[Markup, int]:
    """Return a heatmap of true class against answer, and how many classes it leaves out; nothing without counts.

    Where there are more than `CLASSES` classes, those that take part in the most mistakes are shown.
    """
    read = _counts(table)
    if read is None:
        return Markup(), 0
    labels, counts = read
    size = len(labels)
    wrong = [sum(counts[k]) + sum(row[k] for row in counts) - 2 * counts[k][k] for k in range(size)]
    kept = sorted(sorted(range(size), key=lambda k: -wrong[k])[:CLASSES])
    cell, gutter = (26.0, 170.0) if len(kept) <= 12 else (21.0, 170.0)
    parts = [_text(gutter, 12, "answer →", "axis"), _text(gutter - 8, 30, "truth ↓", "axis", "end")]
    for place, k in enumerate(kept):
        parts.append(_text(gutter + cell * (place + 0.5), 30, str(place + 1), "tick", "middle"))
        y = 36 + cell * place
        whole = element("title", clean(labels[k]))
        parts.append(
            _text(gutter - 8, y + cell / 2 + 4, f"{clean(labels[k], 21)} {place + 1}", "label", "end", inside=whole)
        )
        row = max(sum(counts[k]), 1)
        for column, other in enumerate(kept):
            about = f"{clean(labels[k])} answered as {clean(labels[other])}: {counts[k][other]:,} of {row:,}"
            at = (gutter + cell * column, y)
            parts.append(_cell(at, cell, counts[k][other], counts[k][other] / row, about, right=k == other))
    errors = sum(wrong) // 2
    words = f"{errors:,} of {sum(map(sum, counts)):,} answers are wrong; the table of confusions names the commonest."
    drawn = _drawing(
        name, "What is taken for what?", words, gutter + cell * len(kept) + 4, 40 + cell * len(kept), parts
    )
    return drawn, size - len(kept)


def _counts(table: Any) -> tuple[list[str], list[list[int]]] | None:
    if not isinstance(table, Mapping):
        return None
    labels, counts = table.get("labels"), table.get("counts")
    if not isinstance(labels, list) or not isinstance(counts, list) or not labels or len(labels) != len(counts):
        return None
    if not all(isinstance(row, list) and len(row) == len(labels) for row in counts):
        return None
    return [str(label) for label in labels], [[int(number(cell) or 0) for cell in row] for row in counts]


def _cell(at: tuple[float, float], size: float, rows: int, part: float, about: str, *, right: bool) -> Markup:
    x, y = at
    kind = ("right" if right else "wrong") if rows else "none"
    strength = 0.12 + 0.88 * part
    drawn = [_box(x + 0.5, y + 0.5, size - 1, size - 1, f"cell {kind}", fill_opacity=strength if rows else None, rx=2)]
    if rows:
        shown = str(rows) if rows < 1000 else f"{rows / 1000:.0f}k"
        ink = "count strong" if strength > 0.55 else "count"
        drawn.append(_text(x + size / 2, y + size / 2 + 3.5, shown, ink, "middle"))
    return element("g", element("title", about), *drawn)


def _drawing(name: str, title: str, words: str, width: float, height: float, parts: Sequence[Markup]) -> Markup:
    marks = (f"{name}-title", f"{name}-desc")
    return element(
        "svg",
        element("title", title, id=marks[0]),
        element("desc", words, id=marks[1]),
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_labelledby=" ".join(marks),
        class_="chart",
        style=f"--wide:{width:.0f}px",
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _whisker(x1: float, y1: float, x2: float, y2: float) -> Markup:
    ends = [_line(x, y1 - 4, x, y2 + 4, "whisker") for x in (x1, x2)]
    return joined([_line(x1, y1, x2, y2, "whisker"), *ends])


def _box(x: float, y: float, width: float, height: float, kind: str, **attributes: object) -> Markup:
    return element("rect", x=x, y=y, width=width, height=height, class_=kind, **attributes)


def _dot(x: float, y: float, radius: float, about: str) -> Markup:
    return element("circle", element("title", about), cx=x, cy=y, r=radius, class_="dot")


def _text(
    x: float, y: float, words: str, kind: str, anchor: str = "start", inside: Markup | None = None, **attributes: object
) -> Markup:
    return element("text", words, inside, x=x, y=y, class_=kind, text_anchor=anchor, **attributes)
