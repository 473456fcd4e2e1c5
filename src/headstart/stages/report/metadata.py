"""The metadata block at the top of a model card, as model hubs read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from headstart.stages.report.measures import measures, primary
from headstart.stages.report.taught import TAGS
from headstart.stages.report.use import bundle_path, is_text
from headstart.stages.report.wording import clean, mapping, number, place, texts

UPSTREAM = {"builtin:all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2"}
"""What model hubs call the built-in encoders."""


_KINDS = {"classify": "text-classification", "tag": "text-classification"}
_ROW_KINDS = {"classify": "tabular-classification", "tag": "tabular-classification", "regress": "tabular-regression"}


def model_name(report: Mapping[str, Any]) -> str:
    """Return what the model is called: its bundle's folder."""
    return PurePath(bundle_path(report)).name if report.get("bundle") else "Fitted model"


def front(report: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the metadata block; JSON texts and lists are YAML too."""
    kinds = _KINDS if is_text(report) else _ROW_KINDS
    tasks = [kinds[each["task"]] for each in targets.values() if each.get("task") in kinds]
    found = {each.key for target in targets.values() for each in measures(target)}
    names = {"accuracy": "accuracy", "macro_f1": "f1", "r2": "r_squared", "mae": "mae"}
    base = _base_model(report)
    entries: dict[str, Any] = {
        "library_name": "headstart",
        "license": "unknown",
        "base_model": base,
        "pipeline_tag": tasks[0] if tasks else TAGS.get(str(report.get("task"))),
        "tags": ["headstart", *texts(clean(report.get("method")).split(", "))],
        "metrics": [name for key, name in names.items() if key in found],
    }
    lines = [f"{key}: {_yaml(value)}" for key, value in entries.items() if value]
    return "\n".join(["---", *lines, *_index(report, targets, kinds), "---"])


def _yaml(value: object) -> str:
    return json.dumps([clean(each) for each in value] if isinstance(value, list) else clean(value), ensure_ascii=False)


def _index(report: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]], kinds: Mapping[str, str]) -> list[str]:
    """Return the block from which model hubs read results."""
    origin, results = place(mapping(report.get("data")).get("origin")) or "private table", []
    for name, target in targets.items():
        value = number(target.get(primary(target)))
        kind = kinds.get(target.get("task", ""))
        if value is None or kind is None:
            continue
        metric = {"r2": "r_squared"}.get(primary(target), primary(target))
        results += [
            f"      - task: {{type: {_yaml(kind)}, name: {_yaml(name)}}}",
            f"        dataset: {{type: private, name: {_yaml(origin)}}}",
            "        metrics:",
            f"          - {{type: {metric}, value: {value:.4f}, name: held-out {metric}}}",
        ]
    return ["model-index:", f"  - name: {_yaml(model_name(report))}", "    results:", *results] if results else []


def _base_model(report: Mapping[str, Any]) -> str:
    reference = clean(mapping(report.get("backbone")).get("reference"))
    if reference in UPSTREAM:
        return UPSTREAM[reference]
    hub, _, name = reference.partition(":")
    return PurePath(name).name if hub == "local" else name.partition("@")[0]
