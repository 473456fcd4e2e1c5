"""Smaller forms of a fitted model: what `headstart compress` measures.

    python benchmarks/smaller.py prune|speech

prune is of banking77 with the built-in MiniLM, speech of a network that learnt to write down digits from nothing.
All forms are timed in turns in one process and judged on the table's own test file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from accuracy import fit
from data import DATA


def prune(scratch: Path) -> dict[str, Any]:
    """Leave out a quarter and half of the feed-forward channels, and of the heads beside, without training."""
    train, test = DATA / "banking77/train.csv", DATA / "banking77/test.csv"
    fit(scratch, train, "--test", test, "--target", "category")
    return _compressed(scratch, "--prune", "0.25,0.5", "--heads", "0.25,0.5")


def speech(scratch: Path) -> dict[str, Any]:
    """A network that spells, in eight bits: how many more words are wrong, of a speaker whom it has never heard."""
    subprocess.run([sys.executable, str(Path(__file__).parent / "digits.py"), scratch / "digits"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    table, test = scratch / "digits/train.csv", scratch / "digits/test.csv"
    fit(scratch, table, "--test", test, "--task", "transcribe", "--backbone", "builtin:ctc-small")
    return _compressed(scratch)


def _compressed(scratch: Path, *forms: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "headstart", "compress", str(scratch / "m"), *forms]
    done = subprocess.run([*command, "--json", "--quiet"], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    return {name: found[name] for name in ("rows", "judged_on", "max_drop", "trials", "chosen", "verdict")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=["prune", "speech"])
    chosen = parser.parse_args().section
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(globals()[chosen](Path(folder)), indent=1))
