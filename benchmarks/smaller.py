"""Smaller forms of a fitted model: what `headstart compress` measures.

    python benchmarks/smaller.py prune|prune_pictures|speech|boxes
    python benchmarks/smaller.py precisions banking77|sst2|clothing

prune is of banking77 with the built-in MiniLM, prune_pictures of clothing_small with MobileNetV2, speech of a network
that learnt to write down digits from nothing, boxes of a detector that learnt for three passes. precisions tells what
each table loses at each precision and form. All forms are timed in turns in one process and judged on the table's own
test file.
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
from data import DATA, MOBILE

from headstart.core.bundle import Bundle
from headstart.core.progress import Quiet
from headstart.stages.kept import open_for
from headstart.stages.wanted import other_precisions

PICTURES = ("--backbone", "torchvision:mobilenet_v2", "--weights", MOBILE)
TABLES: dict[str, tuple[object, ...]] = {
    "banking77": (DATA / "banking77/train.csv", "--test", DATA / "banking77/test.csv", "--target", "category"),
    "sst2": (DATA / "sst2/train.csv", "--test", DATA / "sst2/test.csv", "--target", "label", "--method", "probe"),
    "clothing": (DATA / "clothing_small/train", "--test", DATA / "clothing_small/test", *PICTURES),
}
"""What is fitted, by table."""


def prune(scratch: Path) -> dict[str, Any]:
    """Leave out a quarter and half of the feed-forward channels, and of the heads beside, without training."""
    fit(scratch, *TABLES["banking77"])
    return _compressed(scratch, "--prune", "0.25,0.5", "--heads", "0.25,0.5")


def prune_pictures(scratch: Path) -> dict[str, Any]:
    """Leave out a quarter and half of the channels between convolutions, without training."""
    fit(scratch, *TABLES["clothing"])
    return _compressed(scratch, "--prune", "0.25,0.5")


def precisions(scratch: Path, table: str) -> dict[str, Any]:
    """Judge the precisions that this machine has, and forms of eight bits and half width."""
    fit(scratch, *TABLES[table])
    opened = open_for(Bundle.open(scratch / "m"), Quiet())
    engine = ", ".join(f"{each.format} {each.precision}" for each in opened.values())
    found = _compressed(scratch, "--precision", ",".join([*other_precisions(opened), "int8", "f16"]))
    return {"engine": engine, **found}


def speech(scratch: Path) -> dict[str, Any]:
    """A network that spells, in eight bits: how many more words are wrong, of a speaker whom it has never heard."""
    subprocess.run([sys.executable, str(Path(__file__).parent / "digits.py"), scratch / "digits"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    table, test = scratch / "digits/train.csv", scratch / "digits/test.csv"
    fit(scratch, table, "--test", test, "--task", "transcribe", "--backbone", "builtin:ctc-small")
    return _compressed(scratch)


def boxes(scratch: Path) -> dict[str, Any]:
    """Faster R-CNN on a MobileNetV2 that learnt the cells of blood smears: what its boxes lose, and how much faster."""
    fit(scratch, DATA / "bccd", "--task", "detect", *PICTURES, "--set", "epochs=3")
    return _compressed(scratch, "--precision", "openvino bf16,int8,f16", "--max-drop", "2")


def _compressed(scratch: Path, *forms: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "headstart", "compress", str(scratch / "m"), *forms]
    done = subprocess.run([*command, "--json", "--quiet"], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    return {name: found[name] for name in ("rows", "judged_on", "max_drop", "trials", "chosen", "verdict")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=["prune", "prune_pictures", "speech", "boxes", "precisions"])
    parser.add_argument("table", choices=[*TABLES, []], nargs="*")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(globals()[chosen.section](Path(folder), *chosen.table), indent=1))
