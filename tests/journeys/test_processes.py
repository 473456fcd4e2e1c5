"""Several processes that train together: one bundle, one voice, and the same answer whichever of them is asked."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest

from headstart.stages.model import open_model
from headstart.testing.courses import toy_texts
from headstart.testing.networks import write_bert

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow


def together(*command, cache, count=2):
    """Run headstart in several processes, as torchrun does on one machine."""
    started = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--standalone",
               "-m", "headstart", *map(str, command)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HEADSTART_CACHE": str(cache)}
    return subprocess.run(started, capture_output=True, text=True, env=environment, timeout=900)


def test_two_processes_write_one_bundle(tmp_path):
    network = write_bert(tmp_path / "bert")
    rows = [(each, "order" if {"order", "parcel"} & set(each.split()) else "other") for each in toy_texts(200)]
    with (tmp_path / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    ran = together(
        "fit", tmp_path / "table.csv", "--target", "label", "--backbone", f"local:{network}", "--method", "finetune",
        "--set", "epochs=2", "--set", "batch=16", "--curve", "off", "--out", tmp_path / "model", "--json",
        cache=tmp_path / "cache",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    report = json.loads(ran.stdout)  # two reports would be no JSON
    assert ran.stderr.count("wrote ") == 1 and ran.stderr.count("epoch 1 of 2: loss") == 1
    trained = report["ladder"][-1]["trained"]
    assert len(trained["epochs"]) == 2
    assert trained["steps"] <= 2 * -(-200 // (2 * 16)), "each process takes half of the batches"
    model = open_model(tmp_path / "model")
    assert model.predict(rows[0][0])["label"] in ("order", "other")
    twin = next((tmp_path / "cache" / "runs").glob("process1"))
    assert open_model(twin).predict([text for text, _ in rows[:20]]) == model.predict([text for text, _ in rows[:20]])
    assert [each.name for each in (tmp_path / "cache" / "runs").iterdir()] == ["process1"], "all else is removed"
