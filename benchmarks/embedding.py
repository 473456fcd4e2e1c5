"""Embedding throughput: headstart's packed graph against sentence-transformers at its defaults, in the same run.

    python benchmarks/embedding.py [--backbone REF] [--texts TABLE] [--rows 1000] [--repeats 7]

Prints medians of interleaved runs, their ratio, and the cosine of each to sentence-transformers' float32 vectors.
Needs sentence-transformers (the parity extra). Tokenising is part of both times.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from headstart.core.progress import Quiet
from headstart.core.threads import core_count, processor
from headstart.formats.openvino import OpenVINO
from headstart.modalities.text import Text
from headstart.stages.networks import open_network
from headstart.stages.read import read_table

SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="builtin:all-MiniLM-L6-v2")
    parser.add_argument("--texts", default=str(SHARED / "data/banking77/train.csv"))
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", help="also write the figures here, as JSON")
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.backbone, chosen.texts, chosen.rows, chosen.repeats, chosen.out), indent=2))


def measure(backbone: str, texts: str, rows: int, repeats: int, out: str | None = None) -> dict:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(core_count())
    table, _ = read_table(texts)
    some = [str(text) for text in table["text"][:rows]]
    opened = open_network(backbone, "", Quiet())
    text = Text(["text"]).bind(opened.network)
    peer = SentenceTransformer(str(opened.network.folder), device="cpu")
    runs = {"sentence-transformers": lambda: peer.encode(some, show_progress_bar=False)}
    for precision in OpenVINO().offered(opened.network):
        session = OpenVINO().open(opened.network, precision, core_count())
        runs[f"headstart {precision}"] = lambda session=session: session.run(text.encode(text.prepare({"text": some})))[
            "embedding"
        ]
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    vectors = {name: run() for name, run in runs.items()}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    truth = vectors["sentence-transformers"]
    truth = truth / np.linalg.norm(truth, axis=1, keepdims=True)
    base = float(np.median(seconds["sentence-transformers"]))
    result = {
        "machine": f"{processor()}, {core_count()} cores",
        "texts": len(some),
        "runs": {
            name: {
                "seconds": round(float(np.median(each)), 3),
                "ratio": round(base / float(np.median(each)), 2),
                "cosine_mean": round(float((vectors[name] * truth).sum(axis=1).mean()), 6),
                "cosine_min": round(float((vectors[name] * truth).sum(axis=1).min()), 6),
            }
            for name, each in seconds.items()
        },
    }
    if out:
        Path(out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    main()
