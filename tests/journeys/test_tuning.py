"""Tuning a network by the whole command: killed at any moment it goes on, and ends with the same bits."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

for each in ("torch", "accelerate", "transformers"):
    pytest.importorskip(each, reason=f"{each} is not installed; `make test-all` installs it")

from headstart.core.files import sha256  # noqa: E402
from headstart.testing.networks import WORDS, write_bert  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Texts whose label is whether they name an order or a parcel."""
    rng = np.random.default_rng(3)
    place = tmp_path_factory.mktemp("rows") / "rows.csv"
    with place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(400):
            words = list(rng.choice(WORDS, rng.integers(4, 14)))
            writer.writerow([" ".join(words), "order" if {"order", "parcel"} & set(words) else "other"])
    return place


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return write_bert(tmp_path_factory.mktemp("network") / "bert")


def command(table: Path, bert: Path, out: Path, *more: str) -> list[str]:
    fit = [sys.executable, "-m", "headstart", "fit", str(table), "--target", "label", "--backbone", f"local:{bert}"]
    settings = ["--set", "epochs=5", "--set", "patience=5", "--set", "rate=1e-3", "--set", "batch=8"]
    return [*fit, "--method", "finetune", *settings, "--out", str(out), "--json", *more]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "HEADSTART_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def weights(bundle: Path) -> str:
    return sha256(bundle / "backbone/text/model.safetensors")


@pytest.fixture(scope="module")
def whole(table, bert, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("whole")
    done = subprocess.run(
        command(table, bert, place / "m"), env=environment(place / "cache"), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["method"] == "finetune"
    assert [each["name"] for each in report["ladder"]][-1] == "finetune"
    assert not list((place / "cache/runs").glob("*"))
    return place / "m"


@pytest.mark.parametrize("moment", [1, 3])
def test_killed_it_goes_on_and_ends_with_the_same_bits(table, bert, whole, tmp_path, moment):
    # Which engine is fastest here was measured once; another measurement might choose another one.
    if (whole.parent / "cache/engines").is_dir():
        shutil.copytree(whole.parent / "cache/engines", tmp_path / "cache/engines")
    started = subprocess.Popen(
        command(table, bert, tmp_path / "m"), env=environment(tmp_path / "cache"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    runs, ends = tmp_path / "cache/runs", time.monotonic() + 120
    while time.monotonic() < ends and started.poll() is None:
        states = list(runs.glob("*/checkpoint/state.json"))
        if states and json.loads(states[0].read_text())["epoch"] >= moment:
            break
        time.sleep(0.005)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "m").exists(), "it was done before it could be killed"
    again = subprocess.run(
        command(table, bert, tmp_path / "m", "--resume"),
        env=environment(tmp_path / "cache"), capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr[-2000:]
    assert "goes on after step" in again.stderr
    assert weights(tmp_path / "m") == weights(whole)


def test_a_tuned_bundle_answers_without_torch_and_elsewhere(whole, tmp_path):
    moved = tmp_path / "moved"
    whole.rename(moved)
    try:
        code = (
            "import sys; sys.modules['torch'] = None\n"
            "from headstart.cli.main import main; sys.exit(main(['predict', sys.argv[1], 'my order please', '--json']))"
        )
        answer = [sys.executable, "-c", code, str(moved)]
        done = subprocess.run(answer, env=environment(tmp_path), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads(done.stdout)["label"] in ("order", "other", None)
    finally:
        moved.rename(whole)


def test_a_rung_that_does_not_fit_the_budget_is_not_begun(table, bert, tmp_path):
    done = subprocess.run(
        [*command(table, bert, tmp_path / "m", "--budget", "2s")],
        env=environment(tmp_path / "cache"), capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr[-2000:]
    assert "budget" in done.stderr
    assert not (tmp_path / "m").exists()
