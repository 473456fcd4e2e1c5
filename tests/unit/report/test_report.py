"""The report as a page, a card and text: whole with everything, whole with nothing, and deaf to hostile labels."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstart.stages.report import terminal, write_report

INTERVAL = [0.85, 0.95]
TARGET = {
    "task": "classify",
    "rows": 100,
    "method": "probe",
    "verdict": "department: 90.0% on held-out rows.",
    "accuracy": 0.9,
    "accuracy_ci": INTERVAL,
    "macro_f1": 0.88,
    "macro_f1_ci": INTERVAL,
    "precision": 0.9,
    "recall": 0.87,
    "ece": 0.03,
    "automation_rate": 0.7,
    "automation_rate_ci": [0.6, 0.8],
    "automation_precision": 0.97,
    "automation_precision_ci": [0.9, 0.99],
    "precision_target": 0.95,
    "threshold": 0.81,
    "baselines": {
        "majority": {"accuracy": 0.3, "accuracy_ci": [0.2, 0.4]},
        "scratch": {"accuracy": 0.8, "accuracy_ci": [0.7, 0.9], "macro_f1": 0.75},
    },
    "gain_over_scratch": 0.1,
    "gain_over_scratch_ci": [0.02, 0.18],
    "per_class": [
        {
            "label": "a",
            "rows": 60,
            "precision": 0.9,
            "precision_ci": INTERVAL,
            "recall": 0.9,
            "recall_ci": INTERVAL,
            "f1": 0.9,
        },
        {
            "label": "b",
            "rows": 40,
            "precision": None,
            "precision_ci": None,
            "recall": 0.0,
            "recall_ci": [0, 0.1],
            "f1": 0.0,
        },
    ],
    "confusion": {"labels": ["a", "b"], "counts": [[54, 6], [40, 0]]},
    "confused": [{"truth": "b", "answer": "a", "rows": 40}],
    "reliability": [{"confidence": 0.9, "accuracy": 0.88, "rows": 100}],
    "automation_curve": [{"rate": 0.5, "precision": 0.99}, {"rate": 1.0, "precision": 0.9}],
    "race": [{"name": "probe", "score": 0.9, "seconds": 1.2, "chosen": True, "note": ""}],
}
REPORT = {
    "kind": "fit",
    "created": "2026-11-24T10:00:00+00:00",
    "headstart": "0.1.0",
    "bundle": "models/tickets",
    "data": {
        "origin": "tickets.csv",
        "rows": 500,
        "train_rows": 400,
        "test_rows": 100,
        "fingerprint": "ab" * 16,
        "inputs": {"text": ["subject", "body"]},
        "notes": ["inputs: 'subject', 'body' (text)"],
        "warnings": ["10 rows have a near twin."],
        "twins": {"rows": 10, "groups": 5},
    },
    "recipe": {"target": ["department"], "seed": 0},
    "backbone": {
        "reference": "builtin:all-MiniLM-L6-v2@0.1.0",
        "checksum": "cd" * 32,
        "width": 384,
        "licence": "Apache-2.0",
    },
    "method": "probe",
    "verdict": "department: 90.0% on held-out rows.",
    "seconds": 12.3,
    "timings": {"read": 0.1},
    "speed": {
        "latency_ms": {"p50": 4.0, "p95": 6.0},
        "throughput_rows_per_s": 700.0,
        "threads": 2,
        "cost_per_1000": 4e-5,
    },
    "rows": 100,
    "targets": {"department": TARGET},
}
HOSTILE = "<script>alert(1)</script>\"'| `x` [a](javascript:b) \u202e"


class Page(HTMLParser):
    """Collects a page's tags and checks that they are closed in order."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input", "col", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def written(report, folder):
    write_report(folder, report)
    return (folder / "report.html").read_text("utf-8"), (folder / "README.md").read_text("utf-8")


def test_a_whole_report(tmp_path):
    html, card = written(REPORT, tmp_path)
    page = Page(html)
    assert "svg" in page.tags
    assert {"script", "iframe"}.isdisjoint(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href") and "//" in (value or "")]
    for figure in ("90.0", "80.0", "70.0", "97.0"):
        assert figure in html
    assert card.startswith("---\n")
    assert "90.0" in card
    assert json.loads((tmp_path / "report.json").read_text())["targets"]["department"]["accuracy"] == 0.9
    text = terminal(REPORT, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "near twin" in text


def test_nothing_hostile_gets_through(tmp_path):
    report = copy.deepcopy(REPORT)
    target = report["targets"].pop("department")
    target["per_class"][0]["label"] = target["confusion"]["labels"][0] = target["confused"][0]["truth"] = HOSTILE
    target["verdict"] = report["verdict"] = report["data"]["origin"] = report["data"]["warnings"][0] = HOSTILE
    report["targets"][HOSTILE] = target
    html, card = written(report, tmp_path)
    assert "script" not in Page(html).tags
    assert "<script" not in html
    # In the front matter the label is a quoted value, and in a code span it is shown as it is.
    rendered = re.sub(r"`[^`]*`", "", card.split("\n---\n", 1)[1])
    assert "<script" not in rendered
    assert terminal(report, 80)


@pytest.mark.parametrize("key", [*REPORT, *(f"targets.department.{each}" for each in TARGET)])
@pytest.mark.parametrize("how", ["missing", "none", "empty"])
def test_missing_parts_are_not_shown_and_break_nothing(tmp_path, key, how):
    report = copy.deepcopy(REPORT)
    *path, last = key.split(".")
    place = report
    for part in path:
        place = place[part]
    if how == "missing":
        del place[last]
    else:
        place[last] = None if how == "none" else type(place[last])()
    html, card = written(report, tmp_path)
    Page(html)
    for text in (html, card, terminal(report, 80)):
        assert "NaN" not in text
        assert ">None<" not in text


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label=st.text(max_size=40))
def test_any_label(tmp_path, label):
    report = copy.deepcopy(REPORT)
    report["targets"]["department"]["per_class"][0]["label"] = label
    report["targets"]["department"]["confusion"]["labels"][0] = label
    Page(written(report, tmp_path)[0])


def test_many_classes_and_other_tasks(tmp_path):
    report = copy.deepcopy(REPORT)
    target = report["targets"]["department"]
    target["per_class"] = [{**target["per_class"][0], "label": f"class {each}"} for each in range(150)]
    del target["confusion"]
    report["targets"]["words"] = {
        "task": "regress",
        "rows": 100,
        "r2": 0.4,
        "r2_ci": [0.3, 0.5],
        "mae": 3.0,
        "mae_ci": [2.5, 3.5],
        "rmse": 4.0,
        "interval_coverage": 0.9,
        "baselines": {"majority": {"r2": 0.0, "mae": 5.0}, "scratch": {"r2": 0.3, "mae": 3.3}},
        "verdict": "words: R² 0.400",
    }
    html, _ = written(report, tmp_path)
    assert "details" in Page(html).tags
    assert "0.4" in terminal(report, 80)
