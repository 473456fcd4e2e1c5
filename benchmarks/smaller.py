"""Smaller forms of a fitted model: what `headstart compress` measures of banking77 with the built-in MiniLM.

    python benchmarks/smaller.py prune

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
    """Leave out a quarter, half and three quarters of the feed-forward channels, without training."""
    train, test = DATA / "banking77/train.csv", DATA / "banking77/test.csv"
    fit(scratch, train, "--test", test, "--target", "category")
    command = [sys.executable, "-m", "headstart", "compress", str(scratch / "m"), "--prune", "0.25,0.5,0.75"]
    done = subprocess.run([*command, "--json", "--quiet"], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    return {name: found[name] for name in ("rows", "judged_on", "max_drop", "trials", "chosen", "verdict")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=["prune"])
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(prune(Path(folder)), indent=1))
