"""The model card `README.md`: Markdown with the metadata block that model hubs read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headstart.stages.report import taught
from headstart.stages.report.measures import (
    automation,
    classes,
    gain,
    majority_name,
    measures,
    naive,
    out_of_scope,
)
from headstart.stages.report.metadata import front, model_name
from headstart.stages.report.use import (
    cautions,
    command,
    http_lines,
    input_columns,
    limits,
    python_lines,
    shell_lines,
)
from headstart.stages.report.wording import (
    MISSING,
    clean,
    count,
    counted,
    interval,
    listed,
    mapping,
    milliseconds,
    moment,
    number,
    place,
    price,
    seconds,
    share,
    size,
    texts,
    visible,
)

CLASSES = 40
"""Classes that the card lists; the report has them all."""
# What Markdown reads as markup: anywhere, at the edge of a word, or at the beginning of a line.
_ACTIVE = re.compile(r"[\\`*\[\]|~$#]|(?<![^\W_])_|_(?![^\W_])|^[+=-]|(?<=^\d)[.)]|(?<=^\d\d)[.)]")


def card(report: Mapping[str, Any]) -> str:
    """Return the whole card.

    Args:
        report: as `fit` makes it; parts that are missing are left out.
    """
    targets = {str(name): mapping(each) for name, each in mapping(report.get("targets")).items()}
    blocks = [
        front(report, targets),
        f"# {plain(model_name(report))}",
        plain(report.get("verdict")),
        "## What it does",
        _what(report, targets),
        "## How to use it",
        _fence("sh", shell_lines(report)),
        _fence("python", python_lines(report)),
        "" if taught.is_taught(report) else _fence("sh", http_lines(report)),
        "## Results",
        _judged(report),
        *(block for name, target in targets.items() for block in _results(name, target)),
        _figures(report),
        _speed(report),
        "## Limits",
        _bullets(limits(report)[:-1]),
        "## When not to use it",
        _bullets(limits(report)[-1:]),
        "## Training data",
        _data(report),
        "## How to make it again",
        _again(report),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def plain(value: object, limit: int = 0) -> str:
    r"""Return a text that Markdown shows as it is, in a table too.

    >>> plain("a|b <script>")
    'a\\|b &lt;script&gt;'
    """
    return _ACTIVE.sub(r"\\\g<0>", _entities(clean(value, limit)))


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _figures(report: Mapping[str, Any]) -> str:
    """Return the measures of a network that answers by itself."""
    made = [[plain(cell) for cell in each] for each in taught.rows(report)] if taught.is_taught(report) else []
    return _table(["measure", "tuned", "as it was"], made) if made else ""


def _what(report: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]]) -> str:
    if taught.is_taught(report):
        return "\n\n".join(map(plain, taught.does(report)))
    columns = listed([f"`{_code(name)}`" for name in input_columns(report)]) or "a text"
    lines = [f"From {columns} it predicts:", ""]
    for name, target in targets.items():
        labels = [plain(each.get("label"), 40) for each in classes(target)]
        what = {
            "classify": "one label",
            "tag": "any number of labels",
            "regress": "a number with a 90 % interval",
        }.get(str(target.get("task")), "an answer")
        known = sorted(labels)[:12]
        more = f" and {len(labels) - 12} more" if len(labels) > 12 else ""
        lines.append(f"- `{_code(name)}`: {what}" + (f" ({len(labels)}: {', '.join(known)}{more})" if labels else ""))
    backbone = mapping(report.get("backbone"))
    reference = clean(backbone.get("reference"))
    if reference:
        licence = clean(backbone.get("licence"))
        lines += [
            "",
            f"It stands on the pretrained model `{_code(reference)}`"
            + (f" (licence {plain(licence)})." if licence else "."),
        ]
    elif "backbone" in report:
        lines += ["", "No pretrained model is used."]
    return "\n".join([*lines, "", "The licence of what was fitted here is for its owner to state."])


def _code(value: object) -> str:
    return clean(value).replace("`", "'")


def _fence(language: str, lines: Sequence[str]) -> str:
    text = "\n".join(map(_visible_line, lines))
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _visible_line(line: str) -> str:
    return visible(line).rstrip()


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cell or MISSING for cell in row)} |" for row in [heads, rule, *rows])


def _judged(report: Mapping[str, Any]) -> str:
    data = mapping(report.get("data"))
    rows, origin = count(data.get("test_rows")), place(data.get("test_origin"))
    if not rows:
        return ""
    return (
        f"Judged on {rows} rows that the model never saw"
        + (f" ({plain(origin)})" if origin else "")
        + "; 95 % intervals in brackets."
    )


def _results(name: str, target: Mapping[str, Any]) -> list[str]:
    rows = [
        [plain(each.name), plain(f"{each.value} {each.interval}"), plain(each.scratch), plain(each.majority)]
        for each in measures(target)
    ]
    blocks = [f"### {plain(name)}"]
    if rows:
        blocks.append(_table(["measure", "this model", "from scratch", majority_name(target).lower()], rows))
    over, ends = gain(target)
    automated = automation(target)
    said = [
        f"Gain over training from scratch: {over} {ends}".strip() + "." if over else "",
        f"{automated.name}: {automated.value} of rows ({automated.note})." if automated else "",
        naive(target),
        out_of_scope(target),
    ]
    blocks += [plain(each) for each in said if each]
    found = classes(target)
    if found:
        listing = [
            [
                plain(each.get("label"), 60),
                count(each.get("rows")),
                *(_with_interval(each, key) for key in ("precision", "recall")),
                share(each.get("f1")),
            ]
            for each in found[:CLASSES]
        ]
        blocks.append(_table(["class, weakest first", "test rows", "precision", "recall", "F1"], listing))
    if len(found) > CLASSES:
        blocks.append(f"{len(found) - CLASSES:,} more classes are in report.html.")
    return blocks


def _with_interval(row: Mapping[str, Any], key: str) -> str:
    value = share(row.get(key))
    return plain(f"{value} {interval(row.get(f'{key}_ci'))}") if value else ""


def _speed(report: Mapping[str, Any]) -> str:
    speed = mapping(report.get("speed"))
    latency, rate = milliseconds(mapping(speed.get("latency_ms")).get("p50")), count(speed.get("throughput_rows_per_s"))
    cost, hour = price(speed.get("cost_per_1000")), price(speed.get("hourly_price"))
    parts = [
        latency and f"{latency} for one row",
        rate and f"{rate} rows/s",
        cost and f"{cost} per 1,000 answers" + (f" at {hour} an hour" if hour else ""),
        size(speed.get("bundle_bytes")) and f"bundle {size(speed['bundle_bytes'])}",
    ]
    machine, said = clean(speed.get("machine")), ", ".join(filter(None, parts))
    return plain(f"Speed{f' on {machine}' if machine else ''}: {said}.") if said else ""


def _data(report: Mapping[str, Any]) -> str:
    data = mapping(report.get("data"))
    twins = mapping(data.get("twins"))
    lines = [
        f"Origin: {place(data.get('origin'))}" if place(data.get("origin")) else "",
        f"{counted(data.get('rows'), 'row')}: {count(data.get('train_rows')) or MISSING} to learn from, "
        f"{count(data.get('test_rows')) or MISSING} to judge on."
        if count(data.get("rows"))
        else "",
        f"{count(twins['rows'])} rows have a near twin; twins are never on both sides of a split."
        if number(twins.get("rows"))
        else "",
        *(f"Warning: {each}" for each in cautions(report)),
        *texts(data.get("notes")),
        f"Fingerprint: {clean(data['fingerprint'])}" if clean(data.get("fingerprint")) else "",
    ]
    return _bullets(filter(None, lines))


def _again(report: Mapping[str, Any]) -> str:
    backbone = mapping(report.get("backbone"))
    reference, checksum = clean(backbone.get("reference")), clean(backbone.get("checksum"))
    pairs = [
        ("headstart", clean(report.get("headstart"))),
        ("Made:", moment(report.get("created"))),
        ("Took:", seconds(report.get("seconds"))),
        ("Pretrained model:", reference + (f", SHA-256 {checksum}" if reference and checksum else "")),
    ]
    blocks = [_bullets(f"{name} {value}" for name, value in pairs if value)]
    if mapping(report.get("recipe")):
        blocks.append(_fence("sh", [command(report)]))
        blocks.append("All settings are in recipe.toml; all figures are in report.json and report.html.")
    return "\n\n".join(filter(None, blocks))
