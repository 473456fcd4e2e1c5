"""The page's section on one target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headstart.stages.report import charts
from headstart.stages.report.curve import before_training, learning_curve
from headstart.stages.report.markup import Markup, bullets, element, figure, folded, joined, table
from headstart.stages.report.measures import (
    Tile,
    baseline,
    classes,
    gain,
    is_share,
    majority_name,
    measures,
    naive,
    named,
    out_of_scope,
    primary,
    standing,
    tiles,
)
from headstart.stages.report.wording import (
    bounds,
    clean,
    count,
    counted,
    decimal,
    interval,
    number,
    records,
    seconds,
    share,
)

OPEN_CLASSES = 15
"""Rows up to which a long table is open."""


def section(place: int, name: str, target: Mapping[str, Any], *, alone: bool) -> Markup:
    """Return a target's section.

    Args:
        place: its number on the page.
        name: the target column.
        target: its part of the report.
        alone: it is the page's only target, whose key figures and verdict stand at the top already.
    """
    mark = f"target-{place}"
    return element(
        "section",
        element("h2", name, id=mark),
        None if alone else element("p", pill(target), clean(target.get("verdict"))),
        None if alone else tile_list(tiles(target)),
        notices(target),
        figures(mark, target),
        before_training(target),
        _measures(target),
        _classes(target),
        _confusions(mark, target),
        _race(target),
        aria_labelledby=mark,
    )


def pill(target: Mapping[str, Any]) -> Markup:
    """Return a few coloured words on how the target does against the baselines."""
    known = standing(target)
    return element("span", known[1], class_=f"pill {known[0]}") if known else Markup()


def tile_list(shown: Iterable[Tile]) -> Markup:
    """Return key figures as tiles."""
    made = [
        element("div", element("dt", each.name), element("dd", element("b", each.value), element("small", each.note)))
        for each in shown
    ]
    return element("dl", *made, class_="tiles") if made else Markup()


def notices(target: Mapping[str, Any]) -> Markup:
    """Return what the reader must know before the figures: a misleading random split, unknown labels."""
    said = [each for each in (naive(target), out_of_scope(target)) if each]
    return element("div", *(element("p", each) for each in said), class_="notice") if said else Markup()


def figures(mark: str, target: Mapping[str, Any]) -> Markup:
    """Return the target's charts side by side."""
    key = primary(target)
    made = []
    compared = _compared(target)
    if compared:
        name = named(key, target)[0]
        over, ends = gain(target)
        note = f"Whiskers are 95 % intervals. This model against from scratch: {over} {ends}.".replace(" .", ".")
        drawn = charts.bars(f"{mark}-bars", f"{name} of this model and its baselines", compared, percent=is_share(key))
        made.append(figure(f"{name} next to the baselines.", drawn, note if over else "Whiskers are 95 % intervals."))
    reliable = charts.reliability(f"{mark}-reliability", target.get("reliability"))
    if reliable:
        note = "On the dashed line, answers are right as often as they say. Larger dots stand for more rows."
        made.append(figure("Is the confidence honest?", reliable, note))
    automated = charts.automation(f"{mark}-automation", target)
    if automated:
        note = (
            "The most confident rows come first: the more rows are handled automatically, the more errors get through."
        )
        made.append(figure("How much can be automated?", automated, note))
    made += filter(None, [learning_curve(mark, target)])
    return element("div", *made, class_="figures") if made else Markup()


def _compared(target: Mapping[str, Any]) -> list[charts.Bar]:
    key = primary(target)
    scratch, majority = baseline(target, "scratch"), baseline(target, "majority")
    label = clean(majority.get("label"), 18)
    constant = majority_name(target) + (f" ({label})" if label else "")
    entries = [
        (constant, majority, False),
        (
            f"From scratch ({clean(scratch.get('name'))})" if clean(scratch.get("name")) else "From scratch",
            scratch,
            False,
        ),
        ("This model", target, True),
    ]
    return [
        charts.Bar(label, value, bounds(figures_.get(f"{key}_ci")), mine)
        for label, figures_, mine in entries
        if (value := number(figures_.get(key))) is not None
    ]


def valued(value: object, ends: object) -> Markup:
    """Return a figure with its interval in a softer colour."""
    if not value:
        return Markup()
    return joined([value, element("i", ends)], " ") if ends else joined([value])


def _measures(target: Mapping[str, Any]) -> Markup:
    found = measures(target)
    if not found:
        return Markup()
    extra = [
        title
        for title, shown in (
            ("from scratch", any(each.scratch for each in found)),
            (majority_name(target).lower(), any(each.majority for each in found)),
        )
        if shown
    ]
    rows = []
    for each in found:
        others = [
            value
            for title, value in (("from scratch", each.scratch), (majority_name(target).lower(), each.majority))
            if title in extra
        ]
        rows.append([joined([each.name, element("small", each.meaning)]), valued(each.value, each.interval), *others])
    return joined(
        [
            element("h3", "All measures"),
            table(
                "Figures on held-out rows, with 95 % intervals in brackets.", ["measure", "this model", *extra], rows
            ),
        ]
    )


def _classes(target: Mapping[str, Any]) -> Markup:
    found = classes(target)
    if not found:
        return Markup()
    rows = []
    for each in found:
        f1 = number(each.get("f1"))
        meter = element(
            "span", element("span", style=f"--part:{100 * (f1 or 0):.0f}%"), class_="meter", aria_hidden="true"
        )
        rows.append(
            [
                element("bdi", clean(each.get("label"))),
                count(each.get("rows")),
                valued(share(each.get("precision")), interval(each.get("precision_ci"))),
                valued(share(each.get("recall")), interval(each.get("recall_ci"))),
                joined([share(f1), meter]) if f1 is not None else "",
            ]
        )
    caption = f"{counted(len(rows), 'class').replace('classs', 'classes')}, weakest first; 95 % intervals in brackets."
    made = table(caption, ["class", "test rows", "precision", "recall", "F1"], rows)
    return joined(
        [
            element("h3", "Class by class"),
            folded(f"Show all {len(rows):,} classes", made, when=len(rows) > OPEN_CLASSES),
        ]
    )


def _confusions(mark: str, target: Mapping[str, Any]) -> Markup:
    drawn, left_out = charts.confusion(f"{mark}-confusion", target.get("confusion"))
    rows = [
        [element("bdi", clean(each.get("truth"))), element("bdi", clean(each.get("answer"))), count(each.get("rows"))]
        for each in records(target.get("confused"))
    ]
    if not drawn and not rows:
        return Markup()
    parts = [element("h3", "What is taken for what")]
    if drawn:
        note = "Rows are the truth, columns the answers, in the same order. Blue is right, red is wrong."
        note += f" The {left_out:,} classes with the fewest mistakes are left out." if left_out else ""
        parts.append(figure("", element("div", drawn, class_="map"), note))
    if rows:
        made = table("The commonest confusions.", ["truth", "answered as", "rows"], rows, texts=2)
        parts.append(
            folded(f"Show the {len(rows)} commonest confusions", made, when=len(rows) > OPEN_CLASSES or bool(drawn))
        )
    return joined(parts)


def _race(target: Mapping[str, Any]) -> Markup:
    found = records(target.get("race"))
    if not found:
        return Markup()
    noted = any(clean(each.get("note")) for each in found)
    rows = []
    for each in found:
        chosen = each.get("chosen") is True or (
            target.get("method") is not None and each.get("name") == target["method"]
        )
        name = element("b", each.get("name"), " ✓") if chosen else clean(each.get("name"))
        rows.append(
            [
                name,
                *([clean(each.get("note"))] if noted else []),
                decimal(each.get("score")),
                seconds(each.get("seconds")),
            ]
        )
    heads = ["candidate", *(["note"] if noted else []), "held-out score", "time"]
    caption = "What was tried, judged on training rows that each candidate had not seen. ✓ marks what was chosen."
    made = table(caption, heads, rows, texts=2 if noted else 1)
    return joined(
        [
            element("h3", "Race of candidates"),
            folded(f"Show all {len(rows)} candidates", made, when=len(rows) > OPEN_CLASSES),
        ]
    )


def warnings_list(lines: Iterable[str]) -> Markup:
    """Return warnings as a notice, or nothing where there are none."""
    made = bullets(lines)
    return element("div", made, class_="notice") if made else Markup()
