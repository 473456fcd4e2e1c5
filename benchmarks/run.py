"""Everything docs/benchmarks.md says, measured: `make bench`, or python benchmarks/run.py SECTION ...

Each section runs in a process of its own and prints JSON; all of them together are written to docs/benchmarks.json,
from which docs/benchmarks.md is made (benchmarks/page.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from headstart.core.gpu import gpu
from headstart.core.threads import core_count, processor, processor_flags

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parent / "docs" / "benchmarks.json"
SECTIONS = {
    "banking77": "accuracy.py banking77",
    "fewshot": "accuracy.py fewshot",
    "clinc150": "accuracy.py clinc150",
    "tables": "accuracy.py tables",
    "peers": "peers.py",
    "embedding": "embedding.py",
    "cold": "footprint.py cold",
    "million": "footprint.py million",
    "pictures": "files.py pictures",
    "recordings": "files.py recordings",
    "decoding": "files.py decoding",
    "curve": "curves.py forecast",
    "next": "curves.py next",
    "steps": "training.py steps",
    "ladder_banking77": "training.py ladder banking77",
    "ladder_sst2": "training.py ladder sst2",
    "ladder_clothing": "training.py ladder clothing",
    "ladder_tile": "training.py ladder tile",
    "prune": "smaller.py prune",
    "prune_pictures": "smaller.py prune_pictures",
    "precisions_banking77": "smaller.py precisions banking77",
    "precisions_sst2": "smaller.py precisions sst2",
    "precisions_clothing": "smaller.py precisions clothing",
    "small_speech": "smaller.py speech",
    "small_boxes": "smaller.py boxes",
    "boxes": "training.py boxes",
    "speech": "training.py speech",
    "engines_texts": "engines.py texts",
    "engines_pictures": "engines.py pictures",
    "engines_recordings": "engines.py recordings",
    "engines_writing": "engines.py writing",
    "engines_dictation": "engines.py dictation",
    "engines_boxes": "engines.py boxes",
    "engines_single": "engines.py single",
    "gpu_limits": "gpu.py limits",
    "gpu_texts": "gpu.py texts",
    "gpu_pictures": "gpu.py pictures",
    "gpu_steps": "gpu.py steps",
    "gpu_fit_texts": "gpu.py fit_texts",
    "gpu_fit_pictures": "gpu.py fit_pictures",
    "serving_overhead": "serving.py overhead",
    "serving_mixed": "serving.py mixed",
    "serving_overload": "serving.py overload",
    "serving_growth": "serving.py growth",
    "serving_redeploy": "serving.py redeploy",
    "serving_storm": "serving.py storm",
}


ON_EACH = ("banking77", "embedding", "engines_texts", "engines_pictures", "engines_recordings", "engines_writing",
           "engines_dictation", "engines_boxes", "engines_single")  # fmt: skip
"""Sections whose figures are kept for each kind of machine that they were measured on."""


def machine() -> str:
    """Return the processor, its cores, and the widest arithmetic it has: speeds hold for that kind of machine only."""
    kinds = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 with bf16"), ("avx512f", "AVX-512"), ("avx2", "AVX2"))
    widest = next((name for flag, name in kinds if flag in processor_flags()), "no AVX2")
    return ", ".join(filter(None, [processor(), f"{core_count()} cores", widest, gpu()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    here = [each for each in SECTIONS if gpu() or not each.startswith("gpu_")]
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=here)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in parser.parse_args().sections:
        print(f"== {name}", flush=True)
        script, *arguments = SECTIONS[name].split()
        done = subprocess.run([sys.executable, str(FOLDER / script), *arguments], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{name} failed with exit code {done.returncode}")
        if name in ON_EACH:
            results.setdefault(name, {})[machine()] = json.loads(done.stdout)
        else:
            results[name] = json.loads(done.stdout)
            results.setdefault("machines", {})[name] = machine()
        results["busy"] = [each for each in results.get("busy", []) if each != name]
        print(done.stdout, flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, str(FOLDER / "page.py")], check=True)


if __name__ == "__main__":
    main()
