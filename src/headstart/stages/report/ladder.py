"""The ladder of methods: what each rung gave on held-out training rows, what it took, and why it was kept or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headstart.stages.report.markup import Markup, element, figure, joined, table
from headstart.stages.report.wording import clean, decimal, interval, mapping, number, records, seconds, size

CAPTION = (
    "Each rung answered the same held-out training rows. One that changes the network's weights costs more, so it is "
    "kept only where it gains more than a standard error. ✓ marks what was kept; the test rows were not asked."
)
HEADS = ["rung", "why", "held-out score", "time", "weights"]


def section(report: Mapping[str, Any]) -> Markup:
    """Return the page's section; nothing where no ladder was climbed."""
    rungs = records(report.get("ladder"))
    if not rungs:
        return Markup()
    rows = [
        [
            element("b", clean(each.get("name")), " ✓") if each.get("kept") is True else clean(each.get("name")),
            clean(each.get("why")),
            _score(each),
            seconds(each.get("seconds")),
            size(each.get("size")) if each.get("size") else "",
        ]
        for each in rungs
    ]
    made = [element("h2", "Ladder of methods", id="ladder"), table(CAPTION, HEADS, rows, texts=2), _losses(rungs)]
    return element("section", joined(made), aria_labelledby="ladder")


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ladder as lines of text, one for each rung."""
    for each in records(report.get("ladder")):
        mark = "✓" if each.get("kept") is True else " "
        told = [_score(each), seconds(each.get("seconds")), clean(each.get("why"))]
        yield f"{mark} {clean(each.get('name'))}: " + ", ".join(filter(None, told))


def _score(rung: Mapping[str, Any]) -> str:
    if number(rung.get("score")) is None:
        return ""
    return f"{decimal(rung['score'])} {interval(rung.get('interval'), False)}".strip()


def _losses(rungs: list[Mapping[str, Any]]) -> Markup:
    """Return each trained rung's loss and held score by epoch."""
    rows = []
    for rung in rungs:
        for at, epoch in enumerate(records(mapping(rung.get("trained")).get("epochs")), 1):
            rows.append([clean(rung.get("name")), str(at), decimal(epoch.get("loss")), decimal(epoch.get("score"))])
    if not rows:
        return Markup()
    heads = ["rung", "epoch", "training loss", "held-out score"]
    return figure("Epoch by epoch.", table("Loss and held-out score after each epoch.", heads, rows, texts=1), "")
