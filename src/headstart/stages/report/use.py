"""How to use a fitted model, how to make it again, and what it must not be used for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from headstart.core.recipe import Recipe
from headstart.stages.report import taught
from headstart.stages.report.measures import beats_majority
from headstart.stages.report.wording import clean, counted, listed, mapping, masked, number, records, share, texts


def bundle_path(report: Mapping[str, Any]) -> str:
    """Return the bundle's place as a user would type it, without the folders of the machine it was made on."""
    path = PurePath(clean(report.get("bundle")) or "BUNDLE")
    return path.name if path.is_absolute() else str(path)


def input_columns(report: Mapping[str, Any]) -> list[str]:
    """Return the columns that the model reads."""
    inputs = mapping(mapping(report.get("data")).get("inputs"))
    return [str(name) for names in inputs.values() if isinstance(names, (list, tuple)) for name in names]


def is_text(report: Mapping[str, Any]) -> bool:
    """Return whether the model reads texts, so that a bare text can be a question."""
    inputs = mapping(mapping(report.get("data")).get("inputs"))
    return not inputs or bool(inputs.get("text"))


def example(report: Mapping[str, Any]) -> dict[str, str]:
    """Return a row that shows the names of the columns that the model reads."""
    return dict.fromkeys(input_columns(report), "…") or {"text": "…"}


def shell_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what to type to use the model."""
    if taught.is_taught(report):
        return taught.shell_lines(report, bundle_path(report))
    path, row = shlex.quote(bundle_path(report)), json.dumps(example(report), ensure_ascii=False)
    one = '"a text"' if is_text(report) else shlex.quote(row)
    return [
        f"headstart predict {path} {one}",
        f"headstart predict {path} new.csv -o answers.csv",
        f"headstart evaluate {path} labelled.csv",
    ]


def http_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what to type to serve the model and to ask it over HTTP."""
    row = json.dumps(example(report), ensure_ascii=False)
    return [
        f"headstart serve {shlex.quote(bundle_path(report))}",
        "curl -s http://127.0.0.1:8000/predict -H 'Content-Type: application/json' \\",
        f"  -d {shlex.quote(row)}",
    ]


def python_lines(report: Mapping[str, Any]) -> list[str]:
    """Return Python lines that use the model."""
    if taught.is_taught(report):
        return taught.python_lines(report, bundle_path(report))
    row = '"a text"' if is_text(report) else repr(example(report))
    return [
        "import headstart as hs",
        f"model = hs.open_model({bundle_path(report)!r})",
        f"model.predict({row})",
    ]


def command(report: Mapping[str, Any]) -> str:
    """Return the command that fits the model again: what differs from the defaults, and the place."""
    recipe, data = mapping(report.get("recipe")), mapping(report.get("data"))
    usual = asdict(Recipe())
    words = ["headstart", "fit", clean(masked(data.get("origin"))) or "TABLE"]
    for name, value in recipe.items():
        if name not in usual or _same(value, usual[name]):
            continue
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            for key, each in value.items():
                words += [option, f"{key}={each}" if key else str(each)]
        elif isinstance(value, (list, tuple)):
            words += [option, ",".join(map(str, value))]
        else:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    tested = clean(masked(data.get("test_origin")))
    if tested and "held out" not in tested:
        words += ["--test", tested]
    if mapping(report.get("backbone")).get("portable"):
        words.append("--portable")
    words += ["--out", clean(report.get("bundle"))] if clean(report.get("bundle")) else []
    return " ".join(shlex.quote(clean(word)) for word in words)


def _same(value: Any, usual: Any) -> bool:
    return value is None or (list(value) if isinstance(value, (list, tuple)) else value) == (
        list(usual) if isinstance(usual, (list, tuple)) else usual
    )


def limits(report: Mapping[str, Any]) -> list[str]:
    """Return sentences on what the figures do not say, and on what the model must not be used for."""
    targets = {clean(name): mapping(each) for name, each in mapping(report.get("targets")).items()}
    said = [
        "The figures describe held-out rows of the same table. They say nothing about other sources, other times or "
        "other languages: judge the model on a fresh labelled sample (headstart evaluate) before relying on it there.",
        "The 95 % intervals cover the chance in which rows were held out, not a change in the rows that arrive.",
    ]
    if report.get("kind") == "evaluate":
        said[0] = (
            "The figures describe the rows of this table. They say nothing about other sources, other times or "
            "other languages."
        )
    poor = [name for name, each in targets.items() if not beats_majority(each)]
    if poor:
        said.append(f"Do not use the answers for {listed(poor)}: they are not clearly better than one constant answer.")
    promised = [each for each in targets.values() if number(each.get("automation_rate"))]
    if promised:
        wanted = share(promised[0].get("precision_target"))
        said.append(
            f"Automation is promised{f' at {wanted} precision' if wanted else ''} for rows like these only. Have a "
            "person check a random sample of the automated rows, and stop automating when it falls short."
        )
    if any(each.get("task") in ("classify", "tag") for each in targets.values()):
        said.append("The model knows only the labels it was trained on; a new kind of row gets one of the old labels.")
    scarce = [
        f"{name} ({counted(rare, 'class')})".replace("classs", "classes")
        for name, each in targets.items()
        if (rare := _scarce(each))
    ]
    if scarce:
        said.append(f"Some classes have fewer than 10 test rows, so their figures are rough: {listed(scarce)}.")
    return [
        *said,
        "Intended for sorting, routing and suggesting. Not intended to decide alone on matters of law, health, "
        "employment, credit or safety of a person.",
    ]


def _scarce(target: Mapping[str, Any]) -> int:
    return sum((number(each.get("rows")) or 0) < 10 for each in records(target.get("per_class")))


def cautions(report: Mapping[str, Any]) -> Sequence[str]:
    """Return the warnings of the data checks."""
    return texts(mapping(report.get("data")).get("warnings"))
