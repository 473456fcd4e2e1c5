"""A benchmark as Markdown that can be pasted into an issue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headstart.stages.report.wording import (
    clean,
    count,
    decimal,
    mapping,
    milliseconds,
    number,
    place,
    records,
    share,
    size,
)


def markdown(found: Mapping[str, Any]) -> str:
    """Return the whole report.

    Args:
        found: as `stages.benchmark` gives it.
    """
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    machine, best = mapping(found.get("machine")), mapping(found.get("best"))
    yield f"## headstart benchmark: {_cell(place(found.get('bundle')))}"
    yield ""
    gpu = f", {clean(machine['gpu'])}" if machine.get("gpu") else ""
    able = ", ".join(clean(each) for each in machine.get("able") or []) or "none of AVX2 and later"
    yield (
        f"* machine: {clean(machine.get('processor'))}, {count(machine.get('threads'))} threads ({able}){gpu}, "
        + clean(machine.get("system"))
    )
    yield "* versions: " + ", ".join(f"{name} {clean(each)}" for name, each in mapping(found.get("versions")).items())
    for name, each in mapping(found.get("networks")).items():
        tuned = f", {clean(each['tuned'])}" if each.get("tuned") else ""
        weights = f"{count(each.get('parameters'))} weights, {size(each.get('size'))}"
        yield f"* {clean(name)}: {clean(each.get('reference'))}, {clean(each.get('engine'))}, {weights}{tuned}"
    if best:
        at_once = f"{clean(best.get('size'))}, {count(best.get('batch'))} at once"
        yield f"* best: {count(best.get('rows_per_s'))} rows/s ({at_once})"
    yield f"* energy: {_energy(mapping(found.get('energy')))}"
    yield ""
    rows = [
        [
            clean(each.get("size")),
            count(each.get("batch")),
            milliseconds(each.get("p50_ms")),
            milliseconds(each.get("p95_ms")),
            count(each.get("rows_per_s")),
        ]
        for each in records(found.get("latency"))
    ]
    yield from _table(["rows of", "at once", "median", "95 % within", "rows/s"], rows)
    shares = [
        [
            f"{clean(each.get('modality'))}, {clean(each.get('size'))}",
            clean(each.get("engine")),
            f"{decimal((number(each.get('operations')) or 0) / 1e9)} GFLOP",
            f"{decimal((number(each.get('reached')) or 0) / 1e12)} TFLOP/s",
            f"{decimal((number(each.get('peak')) or 0) / 1e12)} TFLOP/s",
            share(each.get("share")),
        ]
        for each in records(found.get("network"))
    ]
    if shares:
        yield ""
        yield from _table(["the network alone on", "engine", "one row", "reached", "matrix product", "share"], shares)


def _energy(found: Mapping[str, Any]) -> str:
    if number(found.get("joules_per_1000")) is None:
        return clean(found.get("why")) or "not measured"
    return f"{decimal(found['joules_per_1000'])} J for 1,000 rows, {decimal(found.get('watts'))} W"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "|".join("---" if not place else "---:" for place in range(len(heads))) + "|"
    for row in rows:
        yield "| " + " | ".join(_cell(each) for each in row) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
