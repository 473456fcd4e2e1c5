"""Benchmark: figures of a fitted model as Markdown and as JSON."""

from __future__ import annotations

import re

import numpy as np
import pytest

from headstart.stages import benchmark as stage
from headstart.stages.benchmark import benchmark
from headstart.stages.fit import fit
from headstart.stages.report.benchmark import markdown
from headstart.testing.networks import WORDS, write_bert


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    network = write_bert(folder / "bert")
    rng = np.random.default_rng(0)
    kinds = ("parcel", "refund")
    others = [word for word in WORDS if word not in kinds]
    lines = [f"{' '.join([*rng.choice(others, 9), kinds[number % 2]])},{kinds[number % 2]}" for number in range(80)]
    (folder / "texts.csv").write_text("\n".join(["body,label", *lines]), encoding="utf-8")
    settings = {"target": "label", "input": "body", "method": "probe", "curve": "off"}
    fit(folder / "texts.csv", backbone=f"local:{network}", out=folder / "model", **settings)
    return folder / "model"


def test_markdown_that_can_be_pasted(headstart, small, tmp_path):
    told = headstart("benchmark", small, "--batch", "2,1", "--out", tmp_path / "b.md", "--quiet")
    assert told.code == 0, told.err
    assert (tmp_path / "b.md").read_text(encoding="utf-8") == told.out
    assert told.out.startswith("## headstart benchmark: model\n")
    assert re.search(r"^\| 8 words \| 1 \| [\d.]+ ms \| [\d.]+ ms \| [\d,]+ \|$", told.out, re.MULTILINE)
    assert re.search(
        r"^\| text, 128 words \| (openvino|onnx) \w+ \| [\d.e-]+ GFLOP \| .* \| .* % \|$", told.out, re.MULTILINE
    )
    assert "* energy: " in told.out and "openvino 20" in told.out


def test_figures_as_json(small):
    found = benchmark(small, batches=[1, 4], span=0.01)
    assert [(each["size"], each["batch"]) for each in found["latency"][:3]] == [
        ("8 words", 1),
        ("8 words", 4),
        ("32 words", 1),
    ]
    for each in found["latency"]:
        assert 0 < each["p50_ms"] <= each["p95_ms"]
        assert each["rows_per_s"] == pytest.approx(1000 * each["batch"] / each["p50_ms"])
    assert all(0 < each["share"] < 1.5 for each in found["network"])
    assert found["best"]["rows_per_s"] == max(each["rows_per_s"] for each in found["latency"])
    assert found["machine"]["threads"] >= 1


def test_energy_is_read_from_the_processors_own_counters(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "POWER", tmp_path)
    assert "no energy counter" in stage._energy(lambda: None, 1, 0.01)["why"]
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text("1000000\n")
    assert stage._joules() == 2.0

    def call():
        counter = tmp_path / "intel-rapl:0" / "energy_uj"
        counter.write_text(f"{int(counter.read_text()) + 500_000}\n")

    found = stage._energy(call, 10, 0.001)
    assert found["joules_per_1000"] == pytest.approx(50)


def test_batches_without_rows_are_refused(headstart, small):
    assert headstart("benchmark", small, "--batch", "0").code == 2
    assert headstart("benchmark", small, "--batch", "x").code == 2


def test_what_is_missing_is_not_shown():
    text = markdown({"bundle": "a|b"})
    assert text.startswith("## headstart benchmark: a\\|b")
    assert "None" not in text
