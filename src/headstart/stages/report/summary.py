"""What the terminal shows after fitting or evaluating."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from headstart.stages.report import ladder, taught
from headstart.stages.report.measures import (
    baseline,
    gain,
    is_share,
    majority_name,
    measures,
    naive,
    out_of_scope,
    primary,
)
from headstart.stages.report.wording import (
    clean,
    columns,
    count,
    counted,
    cut,
    decimal,
    interval,
    mapping,
    masked,
    milliseconds,
    number,
    price,
    seconds,
    share,
    size,
    texts,
)

NARROWEST = 40
_NAME = 19
"""Columns of the names on the left."""
_SHOWN = ("accuracy", "r2", "mae", "macro_f1", "ece")


def terminal(report: Mapping[str, Any], width: int) -> str:
    """Return the report as text for a terminal, without colours.

    Args:
        report: as `fit` and `evaluate` make it; parts that are missing are not shown.
        width: columns, 40 at least; no line is wider.
    """
    width = max(width, NARROWEST)
    targets = {clean(name): mapping(each) for name, each in mapping(report.get("targets")).items()}
    lines = list(_head(report, targets, width))
    for name, target in targets.items():
        lines += ["", *_target(name, target, width)]
    figures = [line for each in taught.lines(report) for line in wrapped(each, width, "  ", "      ")]
    lines += ["", *figures] if figures else []
    climbed = [line for each in ladder.lines(report) for line in wrapped(each, width, "  ", "      ")]
    lines += ["", "ladder of methods", *climbed] if climbed else []
    foot = list(_foot(report, width))
    lines += ["", *foot] if foot else []
    warnings = texts(mapping(report.get("data")).get("warnings"))
    if warnings:
        lines += ["", counted(len(warnings), "warning").capitalize()]
        for each in warnings:
            lines += wrapped(masked(each), width, "  ! ", "    ")
    return "\n".join(lines)


def wrapped(text: str, width: int, first: str = "", later: str = "") -> list[str]:
    """Return a text as lines of at most `width` columns, by what the terminal shows; too long words are broken."""
    lines, line, empty = [], first, True
    words = text.split()[::-1]
    while words:
        word = words.pop()
        longer = line + ("" if empty else " ") + word
        if columns(longer) <= width:
            line, empty = longer, False
            continue
        if empty:
            head = _fitting(word, width - columns(line))
            line, word = line + head, word[len(head) :]
        lines.append(line)
        line, empty = later, True
        words += [word] if word else []
    return lines if empty and lines else [*lines, line]


def _fitting(word: str, room: int) -> str:
    size_ = len(word)
    while size_ > 1 and columns(word[:size_]) > room:
        size_ -= 1
    return word[:size_]


def _head(report: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]], width: int) -> Iterator[str]:
    data, backbone = mapping(report.get("data")), mapping(report.get("backbone"))
    rows = counted(data.get("rows"), "row")
    split = [
        count(data.get(key)) and f"{count(data[key])} {what}"
        for key, what in (("train_rows", "to learn"), ("test_rows", "to judge"))
    ]
    if rows and all(split):
        rows += f" ({', '.join(split)})"
    method, reference = clean(report.get("method")), clean(backbone.get("reference"))
    how = f"{method} on {reference}" if method and reference else method or reference
    over = " · ".join(filter(None, [clean(masked(data.get("origin"))), rows, how]))
    if over:
        yield from wrapped(over, width)
    # Target by target, each verdict begins on a line of its own.
    said = [clean(each.get("verdict")) for each in targets.values()]
    whole = clean(report.get("verdict")) or " ".join(filter(None, said))
    verdicts = said if len(said) > 1 and all(said) and whole == " ".join(said) else [whole]
    if any(verdicts):
        yield ""
        for each in verdicts:
            yield from wrapped(each, width, later="  " if len(verdicts) > 1 else "")


def _target(name: str, target: Mapping[str, Any], width: int) -> Iterator[str]:
    about = ", ".join(
        filter(None, [clean(target.get("task")), counted(target.get("rows"), "test row"), clean(target.get("method"))])
    )
    tail = f" ({about})" if about else ""
    yield from wrapped(cut(name, max(width - columns(tail), 12)) + tail, width)
    for each in measures(target):
        if each.key in _SHOWN:
            yield from _line(each.name, f"{each.value} {each.interval}", width)
    yield from _baselines(target, width)
    yield from _automation(target, width)
    for sentence in (naive(target), out_of_scope(target)):
        if sentence:
            yield from wrapped(sentence, width, "  ! ", "    ")
    for part, label in (("mismatch", "before training"), ("learning_curve", "more labels")):
        sentence = clean(mapping(target.get(part)).get("sentence"))
        if sentence:
            yield from _line(label, sentence, width)


def _line(name: str, value: str, width: int) -> list[str]:
    return wrapped(
        clean(value), width, f"  {name.lower() if name not in ('R²', 'Macro-F1') else name:<{_NAME}}", " " * (_NAME + 2)
    )


def _baselines(target: Mapping[str, Any], width: int) -> Iterator[str]:
    key = primary(target)
    form = share if is_share(key) else decimal
    over, ends = gain(target)
    for part, name in (("scratch", "from scratch"), ("majority", majority_name(target))):
        figures = baseline(target, part)
        value = form(figures.get(key))
        if value:
            said = f"{value} {interval(figures.get(f'{key}_ci'), is_share(key))}".strip()
            if part == "scratch" and over:
                said += f"; this model {over} {ends}".rstrip()
            label = clean(figures.get("label"), 30)
            yield from _line(name, said + (f" ({label})" if label else ""), width)


def _automation(target: Mapping[str, Any], width: int) -> Iterator[str]:
    rate = number(target.get("automation_rate"))
    if rate is None:
        return
    wanted, reached = share(target.get("precision_target")), share(target.get("automation_precision"))
    if not rate:
        said = f"none: no confidence is high enough for {wanted or 'the wanted'} precision"
    else:
        said = f"{share(rate)} {interval(target.get('automation_rate_ci'))} of rows"
        said += f", {reached} {interval(target.get('automation_precision_ci'))} of them right" if reached else ""
        said += f" (wanted {wanted})" if wanted else ""
    yield from _line("automation", said, width)


def _foot(report: Mapping[str, Any], width: int) -> Iterator[str]:
    speed = mapping(report.get("speed"))
    latency, rate = mapping(speed.get("latency_ms")), count(speed.get("throughput_rows_per_s"))
    cost, hour = price(speed.get("cost_per_1000")), price(speed.get("hourly_price"))
    slow = milliseconds(latency.get("p95"))
    parts = [
        milliseconds(latency.get("p50"))
        and f"{milliseconds(latency['p50'])} a row" + (f" (95 % within {slow})" if slow else ""),
        rate and f"{rate} rows/s",
        cost and f"{cost} per 1,000" + (f" at {hour} an hour" if hour else ""),
        size(speed.get("bundle_bytes")) and f"bundle {size(speed['bundle_bytes'])}",
    ]
    if any(parts):
        yield from wrapped(", ".join(filter(None, parts)), width, f"{'speed':<{_NAME + 2}}", " " * (_NAME + 2))
    if seconds(report.get("seconds")):
        steps = [f"{name} {seconds(each)}" for name, each in mapping(report.get("timings")).items() if seconds(each)]
        said = seconds(report["seconds"]) + (f" ({', '.join(steps)})" if steps else "")
        yield from wrapped(clean(said), width, f"{'time':<{_NAME + 2}}", " " * (_NAME + 2))
    if clean(report.get("bundle")) and report.get("kind") == "fit":
        page = str(PurePath(clean(report["bundle"])) / "report.html")
        yield from wrapped(page, width, f"{'report':<{_NAME + 2}}", " " * (_NAME + 2))
