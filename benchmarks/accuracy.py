"""Accuracy and seconds of the whole `headstart fit` command on real tables.

    python benchmarks/accuracy.py banking77|fewshot|clinc150|tables

Each fit is a fresh process with an empty cache, so that start, embedding, race, baseline, calibration and report count.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from data import DATA, draw, table, write

KEYS = ("accuracy", "accuracy_ci", "macro_f1", "ece", "automation_rate", "automation_precision", "rows", "method")


def fit(scratch: Path, *arguments: object, cache: Path | None = None) -> dict[str, Any]:
    """Run `headstart fit` and return its report, with the seconds of the whole command."""
    environment = {**os.environ, "HEADSTART_CACHE": str(cache or tempfile.mkdtemp(dir=scratch))}
    command = [sys.executable, "-m", "headstart", "fit", *map(str, arguments), "--out", str(scratch / "m"), "--json"]
    started = time.perf_counter()
    done = subprocess.run([*command, "--quiet"], stdout=subprocess.PIPE, env=environment, check=True)
    return {**json.loads(done.stdout), "wall": round(time.perf_counter() - started, 1)}


def brief(report: dict[str, Any], target: str) -> dict[str, Any]:
    """Return what the page shows of one target."""
    judged = report["targets"][target]
    return {
        **{key: judged.get(key) for key in KEYS},
        "scratch": judged["baselines"]["scratch"]["accuracy"],
        "majority": judged["baselines"]["majority"]["accuracy"],
        "gain_over_scratch": judged.get("gain_over_scratch"),
        "seconds": report["wall"],
        "verdict": judged["verdict"],
        **{key: judged[key] for key in ("out_of_scope", "in_scope", "random_split_accuracy") if key in judged},
    }


def banking77(scratch: Path) -> dict[str, Any]:
    train, test = DATA / "banking77/train.csv", DATA / "banking77/test.csv"
    return brief(fit(scratch, train, "--test", test, "--target", "category"), "category")


def fewshot(scratch: Path) -> dict[str, Any]:
    rows, test = table("banking77/train.csv"), DATA / "banking77/test.csv"
    cache = scratch / "shared-cache"
    found: dict[str, Any] = {}
    for count in (5, 10, 30):
        draws = []
        for seed in range(5):
            some = write(scratch / "few.csv", draw(rows, "category", count, seed))
            draws.append(brief(fit(scratch, some, "--test", test, "--target", "category", cache=cache), "category"))
        found[str(count)] = {
            "accuracy": float(np.mean([each["accuracy"] for each in draws])),
            "draws": [each["accuracy"] for each in draws],
            "scratch": float(np.mean([each["scratch"] for each in draws])),
        }
    return found


def clinc150(scratch: Path) -> dict[str, Any]:
    inside = [row for row in table("clinc150/train.csv") if row["domain"] != "oos"]
    train = write(scratch / "train.csv", inside)
    report = fit(scratch, train, "--test", DATA / "clinc150/test.csv", "--target", "domain,intent")
    return {target: brief(report, target) for target in ("domain", "intent")}


def tables(scratch: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, targets in {
        "helpdesk_tickets/tickets_1566.csv": "queue,priority",
        "twitter_airline/tweets.csv": "airline_sentiment,negativereason",
        "german_credit/german_data_credit.csv": "class-label",
        "adult/adult.csv": "income-per-year",
    }.items():
        report = fit(scratch, DATA / name, "--target", targets)
        found |= {f"{name.partition('/')[0]}: {target}": brief(report, target) for target in targets.split(",")}
    rows = table("banking77/train.csv")[::3]
    labels = [row["category"] for row in rows]
    random.Random(0).shuffle(labels)
    shuffled = [{"text": row["text"], "label": label} for row, label in zip(rows, labels, strict=True)]
    report = fit(scratch, write(scratch / "shuffled.csv", shuffled), "--target", "label")
    return {**found, "banking77 with shuffled labels": brief(report, "label")}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(globals()[sys.argv[1]](Path(folder)), indent=1))
