"""Several adapters on one backbone: memory and processor time beside merged copies.

    python benchmarks/adapters.py BUNDLE [--adapters 10] [--rank 8]

BUNDLE is one of a text encoder of the BERT family, fitted with the probe on the example tickets. It is copied once for
each adapter, whose numbers are drawn: what they say costs nothing, how many there are does. Prints JSON.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from headstart import examples
from headstart.core.adapter import SETTINGS, TENSORS
from headstart.core.arrays import joined
from headstart.core.bundle import Bundle
from headstart.core.progress import Quiet
from headstart.formats import _bert_graph
from headstart.runtime import Runtime, embedded
from headstart.stages.kept import Kept, open_for
from headstart.stages.model import open_targets

DRAWS, REPEATS = 4, 2


def adapted(source: Bundle, out: Path, seed: int, rank: int) -> None:
    """Write a copy of a bundle with a drawn adapter."""
    layers = _bert_graph.linears(open_for(source, Quiet())["text"].network)
    rng, tensors = np.random.default_rng(seed), {}
    for name, (wide, tall) in layers.items():
        down, up = rng.standard_normal((rank, wide)) / np.sqrt(wide), 0.02 * rng.standard_normal((tall, rank))
        tensors[f"base_model.model.{name}.lora_A.weight"] = down.astype(np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = up.astype(np.float32)
    with Bundle.create(out) as part:
        shutil.copytree(source.path, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("bundle.json"))
        (part / "adapter" / "text").mkdir(parents=True)
        save_file(tensors, part / "adapter" / "text" / TENSORS)
        told = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
        (part / "adapter" / "text" / SETTINGS).write_text(json.dumps(told))
        specs = source.json("backbones.json")
        specs["text"] |= {"adapter": True, "tuned": "lora"}
        (part / "backbones.json").write_text(json.dumps(specs))


def memory() -> float:
    """Return this process's megabytes."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def opened(folders: list[Path], kept: Kept | None) -> tuple[list[Runtime], dict[str, float]]:
    """Open bundles, and return them with what that took."""
    before, cpu = memory(), time.process_time()
    runtimes = [open_targets(each, Quiet(), kept, baselines=False).runtime for each in folders]
    for each in runtimes:
        each.predict_rows(["example"])
    return runtimes, {"mb": round(memory() - before), "cpu_s": round(time.process_time() - cpu, 1)}


def vectors(rows: list[tuple[Any, Any, Any]], pass_of: Any) -> np.ndarray:
    """Return the vectors of rows; those for which `pass_of` gives the same go through the network together."""
    groups: dict[int, list[int]] = {}
    for at, (_, session, _) in enumerate(rows):
        groups.setdefault(id(pass_of(session)), []).append(at)
    found: list[Any] = [None] * len(rows)
    for places in groups.values():
        modality, session, _ = rows[places[0]]
        arrays = joined([rows[at][2] for at in places])
        beside = joined([rows[at][1].beside(1) for at in places])
        for at, vector in zip(places, embedded(modality, session.shared, arrays, beside=beside), strict=True):
            found[at] = vector
    return np.array(found)


def timed(merged: list[Runtime], shared: list[Runtime], texts: list[str], adapters: int, count: int) -> dict[str, Any]:
    """Return the milliseconds of processor time that rows take in each of three ways, and the least cosine."""
    rng = np.random.default_rng(count)
    ways = {
        "merged_ms": (merged, lambda session: session),
        "apart_ms": (shared, lambda session: session),
        "together_ms": (shared, lambda session: session.shared),
    }
    spent, least = dict.fromkeys(ways, 0.0), 1.0
    for _ in range(DRAWS):
        drawn = [(int(rng.integers(adapters)), texts[int(rng.integers(len(texts)))]) for _ in range(count)]
        found = {}
        for name, (runtimes, pass_of) in ways.items():
            rows = []
            for number, text in drawn:
                own = runtimes[number]
                rows += own.read_by_networks(own.prepare(own.table([text])))
            vectors(rows, pass_of)
            best = np.inf
            for _ in range(REPEATS):
                cpu = time.process_time()
                found[name] = vectors(rows, pass_of)
                best = min(best, time.process_time() - cpu)
            spent[name] += 1000 * best / DRAWS
        norms = [np.linalg.norm(found[name], axis=1) for name in ("merged_ms", "together_ms")]
        cosines = np.sum(found["merged_ms"] * found["together_ms"], axis=1) / np.prod(norms, axis=0)
        least = min(least, float(cosines.min()))
    return {name: round(each) for name, each in spent.items()} | {"least_cosine": round(least, 6)}


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--adapters", type=int, default=10)
    parser.add_argument("--rank", type=int, default=8)
    chosen = parser.parse_args()
    with open(Path(examples.__path__[0]) / "tickets.csv", encoding="utf-8", newline="") as file:
        tickets = list(csv.DictReader(file))
    texts = {name: [row[name] for row in tickets if row[name].strip()] for name in ("subject", "body")}
    with tempfile.TemporaryDirectory() as made:
        folders = [Path(made) / f"m{number}" for number in range(chosen.adapters)]
        for number, each in enumerate(folders):
            adapted(Bundle.open(chosen.bundle), each, number, chosen.rank)
        shared, joint = opened(folders, Kept())
        merged, copies = opened(folders, None)
        result: dict[str, Any] = {"shared": joint, "merged": copies}
        for kind, own in texts.items():
            for adapters, count in ((chosen.adapters, 5), (chosen.adapters, 10), (chosen.adapters, 30), (1, 10)):
                result[f"{count} {kind}s of {adapters}"] = timed(merged, shared, own, adapters, count)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
