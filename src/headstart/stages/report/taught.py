"""A network that was tuned to answer by itself: its figures before and after, on the page, the card and a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headstart.stages.report.markup import Markup, element, joined, table
from headstart.stages.report.wording import (
    bounds,
    clean,
    count,
    counted,
    decimal,
    interval,
    mapping,
    number,
    records,
    share,
    signed_interval,
)

NAMES = {
    "map": "mAP",
    "map50": "mAP50",
    "map75": "mAP75",
    "wer": "WER",
    "cer": "CER",
    "exact": "without an error",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "exact_match": "exact match",
    "word_f1": "word F1",
    "chrf": "chrF",
    "pseudo_perplexity": "pseudo-perplexity",
    "accuracy": "accuracy",
    "mrr": "mean reciprocal rank",
    "recall_1": "recall@1",
    "recall_10": "recall@10",
    "spearman": "Spearman's rank correlation",
}
"""What measures are called, in the order in which they are shown."""
UNLIKELY = ("perplexity", "pseudo_perplexity", "bits_per_byte")
PLAIN = (*UNLIKELY, "spearman")
"""Measures that are no shares."""
LOWER = ("wer", "cer", *UNLIKELY)
"""Measures of which less is better."""
DOES = {
    "detect": "finds boxes in pictures",
    "transcribe": "writes down what is said",
    "generate": "writes texts",
    "fill_mask": "fills in hidden words",
    "embed": "gives texts that belong together vectors that lie together",
}
TAGS = {
    "detect": "object-detection",
    "transcribe": "automatic-speech-recognition",
    "generate": "text-generation",
    "fill_mask": "fill-mask",
    "embed": "sentence-similarity",
}
"""What model hubs call the tasks."""
EXAMPLES = {"detect": "picture.jpg", "transcribe": "recording.wav", "fill_mask": '"A text with a [MASK]"'}


def is_taught(report: Mapping[str, Any]) -> bool:
    """Return whether a report is on a network that answers by itself."""
    return bool(report.get("task")) and "metrics" in report


def helped(report: Mapping[str, Any]) -> bool | None:
    """Return True where tuning has helped beyond chance, False where it has hurt, None where neither can be said."""
    gain = bounds(report.get("gain_ci"))
    if gain:
        return True if gain[0] > 0 else False if gain[1] < 0 else None
    name = f"{report.get('primary')}_ci"
    first, second = bounds(mapping(report.get("before")).get(name)), bounds(mapping(report.get("metrics")).get(name))
    if not first or not second:
        return None
    low, high = (first, second) if report.get("higher_is_better") else (second, first)
    better, worse = low[1] < high[0], high[1] < low[0]
    return True if better else False if worse else None


def change(report: Mapping[str, Any]) -> str:
    """Return what tuning has changed, in a sentence."""
    key, metrics, before = str(report.get("primary")), mapping(report.get("metrics")), report.get("before")
    noun = "row" if report.get("kind") == "evaluate" else "held-out row"
    name, rows = NAMES.get(key, key), counted(report.get("rows"), noun)
    after = shown(metrics, key)
    if not before:
        reason = clean(report.get("not_before"))
        said = f"{name} {after} {interval(metrics.get(f'{key}_ci'), key not in PLAIN)}".strip() + f" on {rows}."
        return said + (f" Nothing to compare with: {reason}." if reason else "")
    figures = f"{name} {shown(mapping(before), key)} → {after} on {rows}"
    verdict = helped(report)
    if verdict:
        return f"Tuning helped: {figures}."
    if verdict is False:
        return f"Tuning hurt: {figures}. Use the network as it was."
    return f"No clear gain: {figures}, which chance explains too. Use the network as it was."


def shown(figures: Mapping[str, Any], key: str) -> str:
    """Return a measure as text."""
    return (decimal if key in PLAIN else share)(figures.get(key)) or "unknown"


def rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return name, value now, and value before of each measure."""
    now, before = mapping(report.get("metrics")), mapping(report.get("before"))
    found = []
    for key, name in NAMES.items():
        if number(now.get(key)) is None:
            continue
        value = f"{shown(now, key)} {interval(now.get(f'{key}_ci'), key not in PLAIN)}".strip()
        was = f"{shown(before, key)} {interval(before.get(f'{key}_ci'), key not in PLAIN)}".strip()
        found.append([name + (" (less is better)" if key in LOWER else ""), value, was if key in before else ""])
    return found


def section(report: Mapping[str, Any]) -> Markup:
    """Return the page's section; nothing of other reports."""
    if not is_taught(report):
        return Markup()
    compared = bool(report.get("before"))
    heads = ["measure", "tuned", "as it was"] if compared else ["measure", "value"]
    figures = [each[: len(heads)] for each in rows(report)]
    caption = f"{count(report.get('rows')) or 'The'} rows that were not learnt from, with 95 % intervals in brackets."
    made: list[Any] = [element("h2", "Figures", id="figures"), table(caption, heads, figures)]
    if bounds(report.get("gain_ci")):
        percent = report.get("primary") not in PLAIN
        said = signed_interval(report["gain_ci"], percent)
        made.append(element("p", f"Gain on the same rows, 95 % interval: {said}{' points' if percent else ''}."))
    classes = records(mapping(report.get("metrics")).get("classes"))
    if classes:
        listing = [
            [clean(each.get("label"), 60), count(each.get("boxes")), share(each.get("map50")), share(each.get("map"))]
            for each in classes
        ]
        made.append(table("Each label by itself.", ["label", "boxes", "mAP50", "mAP"], listing))
    return element("section", joined(made), aria_labelledby="figures")


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield each measure as a line of text; nothing of other reports."""
    if is_taught(report):
        for name, value, was in rows(report):
            yield f"{name}: {value}" + (f"; as it was {was}" if was else "")


def shell_lines(report: Mapping[str, Any], path: str) -> list[str]:
    """Return what to type to use the network."""
    task, quoted = str(report.get("task")), shlex.quote(path)
    data = "new.csv" if task in ("generate", "fill_mask", "embed") else "folder/"
    return [
        f"headstart predict {quoted} {EXAMPLES.get(task, QUESTION)}",
        f"headstart predict {quoted} {data} -o answers.jsonl",
        f"headstart evaluate {quoted} labelled.csv",
    ]


def python_lines(report: Mapping[str, Any], path: str) -> list[str]:
    """Return Python lines that use the network."""
    given = EXAMPLES.get(str(report.get("task")), QUESTION).strip('"')
    return ["import headstart as hs", f"model = hs.open_model({path!r})", f'model.predict("{given}")']


def does(report: Mapping[str, Any]) -> Sequence[str]:
    """Return sentences on what the network does and what it came from."""
    task, data = str(report.get("task")), mapping(report.get("data"))
    backbone = mapping(report.get("backbone"))
    read = ", ".join(clean(each) for names in mapping(data.get("inputs")).values() for each in names)
    return [
        f"A network that {DOES.get(task, task)}. It learnt from the column {read}, with the answers in "
        f"{clean(data.get('target'))}.",
        f"It is {clean(backbone.get('reference'))}, tuned by {clean(report.get('method'))}.",
    ]


QUESTION = '"a text"'
