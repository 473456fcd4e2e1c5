"""The page `report.html`: one file, no script, nothing fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from headstart.stages.report import compressed, ladder, taught
from headstart.stages.report.markup import Markup, bullets, element, facts, joined, table
from headstart.stages.report.measures import Tile, automation, gain, measures, primary, tiles
from headstart.stages.report.style import STYLE
from headstart.stages.report.target import pill, section, tile_list, valued, warnings_list
from headstart.stages.report.use import command, limits
from headstart.stages.report.wording import (
    clean,
    count,
    counted,
    decimal,
    listed,
    mapping,
    masked,
    milliseconds,
    moment,
    number,
    place,
    price,
    seconds,
    size,
    texts,
)

# The browser is told as well: no script, no image but the empty icon, no request, whatever a label may say.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(report: Mapping[str, Any]) -> str:
    """Return the whole page.

    Args:
        report: as `fit` and `evaluate` make it; parts that are missing are not shown.
    """
    targets = {str(name): mapping(each) for name, each in mapping(report.get("targets")).items()}
    alone = len(targets) == 1
    body = [
        element("header", element("p", _over(report), class_="over"), element("h1", title(report))),
        element(
            "main",
            _verdict(report, targets),
            tile_list(_key_figures(report, targets)),
            _overview(targets),
            *(section(n, name, each, alone=alone) for n, (name, each) in enumerate(targets.items(), 1)),
            taught.section(report),
            ladder.section(report),
            compressed.section(report),
            _speed(report),
            _data(report),
            _again(report),
            _box("Limits and intended use", bullets(limits(report)), "limits"),
        ),
        element("footer", element("p", _foot(report))),
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"{title(report)} · headstart report"),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(STYLE)),
    ]
    document = element("html", element("head", *head), element("body", *body), lang="en")
    return f"<!doctype html>\n{document}\n"


def title(report: Mapping[str, Any]) -> str:
    """Return what the report is about, in one line of plain text."""
    if taught.is_taught(report):
        return f"A network that {taught.DOES.get(str(report['task']), str(report['task']))}"
    names = [clean(name, 60) for name in mapping(report.get("targets"))]
    about = listed(names) if len(names) <= 4 else f"{listed(names[:3])} and {len(names) - 3} more columns"
    if report.get("kind") == "evaluate":
        return f"How well is {about} predicted?" if names else "Evaluation"
    return f"Predicting {about}" if names else "Report"


def _over(report: Mapping[str, Any]) -> str:
    kind = "Evaluation" if report.get("kind") == "evaluate" else "Report on a fitted model"
    parts = [kind, place(mapping(report.get("data")).get("origin")), moment(report.get("created"))]
    return " · ".join(filter(None, parts))


def _verdict(report: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]]) -> Markup:
    said = [clean(each.get("verdict")) for each in targets.values()]
    whole = clean(report.get("verdict")) or " ".join(filter(None, said))
    lines: list[Markup] = []
    if len(targets) > 1 and all(said) and whole == " ".join(said):
        lines = [bullets(joined([pill(each), each.get("verdict")]) for each in targets.values())]
    elif whole:
        own = pill(next(iter(targets.values()))) if len(targets) == 1 else Markup()
        lines = [element("p", own, whole)]
    found = len(texts(mapping(report.get("data")).get("warnings")))
    if found:
        link = element("a", f"{counted(found, 'warning')} about the data", href="#data")
        lines.append(element("p", "Read also the ", link, "."))
    return element("section", *lines, class_="verdict", aria_label="Verdict") if lines else Markup()


def _key_figures(report: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]]) -> Iterator[Tile]:
    if len(targets) == 1:
        yield from tiles(next(iter(targets.values())))
    speed = mapping(report.get("speed"))
    latency = mapping(speed.get("latency_ms"))
    if milliseconds(latency.get("p50")):
        slow = milliseconds(latency.get("p95"))
        yield Tile("Latency, one row", milliseconds(latency["p50"]), slow and f"95 % within {slow}")
    if count(speed.get("throughput_rows_per_s")):
        yield Tile("Throughput", f"{count(speed['throughput_rows_per_s'])} rows/s", _threads(speed))
    if price(speed.get("cost_per_1000")):
        hour = price(speed.get("hourly_price"))
        yield Tile(
            "Cost per 1,000 answers", price(speed["cost_per_1000"]), hour and f"at {hour} for an hour of this machine"
        )
    if seconds(report.get("seconds")):
        yield Tile("Time to fit and prove", seconds(report["seconds"]), "baselines and this report included")


def _threads(speed: Mapping[str, Any]) -> str:
    return " ".join(filter(None, [f"on {counted(speed.get('threads'), 'thread')}" if speed.get("threads") else ""]))


def _overview(targets: Mapping[str, Mapping[str, Any]]) -> Markup:
    if len(targets) < 2:
        return Markup()
    rows = []
    for number_, (name, target) in enumerate(targets.items(), 1):
        first = next((each for each in measures(target) if each.key == primary(target)), None)
        automated = automation(target)
        rows.append(
            [
                element("a", clean(name), href=f"#target-{number_}"),
                valued(first.value, first.interval) if first else "",
                first.scratch if first else "",
                valued(*gain(target)),
                automated.value if automated else "",
            ]
        )
    heads = ["target", "this model", "from scratch", "gain", "automated"]
    caption = "Accuracy (R² for numbers) on held-out rows, with 95 % intervals in brackets."
    return _box("At a glance", table(caption, heads, rows), "glance")


def _box(heading: str, inside: object, mark: str) -> Markup:
    return element("section", element("h2", heading, id=mark), inside, aria_labelledby=mark) if inside else Markup()


def _facts(pairs: list[tuple[str, object]]) -> Markup:
    return Markup(facts(pairs).replace("<dl>", '<dl class="facts">', 1))


def _speed(report: Mapping[str, Any]) -> Markup:
    speed, latency = mapping(report.get("speed")), mapping(mapping(report.get("speed")).get("latency_ms"))
    parts = " · ".join(
        f"{name} {seconds(each)}" for name, each in mapping(report.get("timings")).items() if seconds(each)
    )
    hour, cost = price(speed.get("hourly_price")), price(speed.get("cost_per_1000"))
    rate = count(speed.get("throughput_rows_per_s"))
    pairs: list[tuple[str, object]] = [
        ("Machine", clean(speed.get("machine"))),
        ("Precision", clean(speed.get("precision"))),
        ("Engines, as measured", clean(mapping(report.get("backbone")).get("why"))),
        ("Threads", count(speed.get("threads"))),
        ("One row, median", milliseconds(latency.get("p50"))),
        ("One row, 95th percentile", milliseconds(latency.get("p95"))),
        ("Many rows", rate and f"{rate} rows/s"),
        (
            "Cost per 1,000 answers",
            cost and cost + (f", at {hour} for an hour of this machine at full load" if hour else ""),
        ),
        ("Size of the bundle", size(speed.get("bundle_bytes"))),
        ("Size of the pretrained model", size(speed.get("backbone_bytes")) if speed.get("backbone_bytes") else ""),
        ("Fitting took", seconds(report.get("seconds"))),
        ("of which", parts),
    ]
    return _box("Speed, size and cost", _facts(pairs), "speed")


def _data(report: Mapping[str, Any]) -> Markup:
    data = mapping(report.get("data"))
    twins = mapping(data.get("twins"))
    near = count(twins.get("rows"))
    pairs: list[tuple[str, object]] = [
        ("Origin", clean(data.get("origin"))),
        ("Rows", count(data.get("rows"))),
        ("Rows to learn from", count(data.get("train_rows"))),
        ("Rows to judge on", " · ".join(filter(None, [count(data.get("test_rows")), clean(data.get("test_origin"))]))),
        *((f"Read as {kind}", ", ".join(texts(names))) for kind, names in mapping(data.get("inputs")).items()),
        (
            "Near twins",
            near and f"{near} rows in {counted(twins.get('groups'), 'group')}, never on both sides of a split",
        ),
        ("Fingerprint", element("code", data["fingerprint"]) if clean(data.get("fingerprint")) else ""),
    ]
    inside = [_facts(pairs)]
    for heading, made in (
        ("Warnings from the checks", warnings_list(texts(data.get("warnings")))),
        ("What was inferred", bullets(texts(data.get("notes")))),
    ):
        if made:
            inside += [element("h3", heading), made]
    return _box("Data", joined(inside), "data")


def _again(report: Mapping[str, Any]) -> Markup:
    backbone, recipe = mapping(report.get("backbone")), mapping(report.get("recipe"))
    weights = count(backbone.get("parameters")) if number(backbone.get("parameters")) else ""
    pairs: list[tuple[str, object]] = [
        ("headstart", clean(report.get("headstart"))),
        *((name, clean(each)) for name, each in mapping(report.get("versions")).items()),
        ("Made", moment(report.get("created"))),
        ("Bundle", clean(report.get("bundle"))),
        ("Method", clean(report.get("method"))),
        ("Pretrained model", clean(backbone.get("reference")) or ("none was used" if "backbone" in report else "")),
        ("its licence", clean(backbone.get("licence"))),
        (
            "its weights",
            " · ".join(filter(None, [weights, f"width {backbone['width']}" if backbone.get("width") else ""])),
        ),
        ("its SHA-256", element("code", backbone["checksum"]) if clean(backbone.get("checksum")) else ""),
        (
            "Data fingerprint",
            element("code", fingerprint)
            if (fingerprint := clean(mapping(report.get("data")).get("fingerprint")))
            else "",
        ),
    ]
    parts: list[object] = [_facts(pairs)]
    if recipe:
        rows = [
            [element("code", name), element("code", _setting(each))]
            for name, each in recipe.items()
            if each not in (None, "", [], {})
        ]
        parts += [
            element("h3", "Recipe"),
            table("All that fitting needed besides the data.", ["setting", "value"], rows, texts=2),
        ]
        parts += [element("h3", "Command"), element("pre", element("code", command(report)))]
    return _box("Reproduce it", joined(parts), "reproduce")


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return decimal(value) if value != int(value) else f"{value:g}"
    return clean(json.dumps(masked(value), ensure_ascii=False, default=str))


def _foot(report: Mapping[str, Any]) -> str:
    version = clean(report.get("headstart"))
    return f"Made by headstart{' ' + version if version else ''}. This page is one file and fetches nothing."
