"""Serving: what a request costs beside other servers, and what a server does under loads that are too large.

    python benchmarks/serving.py overhead|mixed|overload|growth|redeploy|storm [--seconds 10] [--bundle PATH]

Prints JSON. With `--seconds 3` a section is a smoke run. The load comes from this process, on the same cores; its own
processor time is told as `client_cpu_ms`. Peers run in environments of their own below the folder that the variable
BENCH_PEERS names, and are skipped where they are missing:

    for name in fastapi litserve bentoml kserve; do python -m venv $BENCH_PEERS/$name; done
    $BENCH_PEERS/fastapi/bin/pip install fastapi "uvicorn[standard]" orjson
    $BENCH_PEERS/litserve/bin/pip install litserve
    $BENCH_PEERS/bentoml/bin/pip install bentoml
    $BENCH_PEERS/kserve/bin/pip install kserve

`mixed` needs headstart and sentence-transformers in LitServe's environment, too. This takes them from `.venv-parity`:

    echo "import site; site.addsitedir('$PWD/.venv-parity/lib/python3.11/site-packages')" > \\
        $BENCH_PEERS/litserve/lib/python3.11/site-packages/parity.pth
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# As headstart's own command does it: else NumPy's threads spin beside the network.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import numpy as np
from _load import Tally, Target, asked_again, closed, opened, percentile, post
from _servers import Server, headstart, noop, peer, script
from _steady import growth, redeploy, storm
from _texts import as_bodies, bundle_of, mixed_texts

NOOP = [json.dumps({"text": f"My order {number} has not arrived."}).encode() for number in range(100)]
ROUNDS, PAIRS, TURNS = 3, 5, 11
"""Rounds of each server; those of headstart beside the runtime alone, and turns of requests that cost nothing: what is
close to its bound has more of them, for a machine is not equally fast all the time.
"""
BENTO = str(Path(__file__).parent / "servers" / "noop_bentoml.py") + ":Noop"
PEERS: dict[str, tuple[Callable[[str], Server], list[bytes]]] = {
    "fastapi": (lambda python: Server(script("noop_fastapi", "{port}", python=python)), post("/predict", NOOP)),
    "litserve": (lambda python: Server(script("noop_litserve", "{port}", python=python)), post("/predict", NOOP)),
    "bentoml": (
        lambda python: Server([python, "-m", "bentoml", "serve", BENTO, "--port", "{port}"], "/livez"),
        post("/predict", [each.replace(b": ", b": [").replace(b"}", b"]}") for each in NOOP]),
    ),
    "kserve": (
        lambda python: Server(script("noop_kserve", "--http_port", "{port}", "--enable_grpc", "false", python=python)),
        post("/v1/models/toy:predict", [b'{"instances": [%s]}' % each for each in NOOP]),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (default: 10)")
    parser.add_argument("--bundle", help="serve this bundle of texts instead of fitting one")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        found = SECTIONS[chosen.section](chosen.seconds, lambda: bundle_of(chosen.bundle, Path(folder)))
    print(json.dumps(found, indent=1))


def loaded(
    server: Server, requests: list[bytes], clients: int, *, seconds: float = 0.0, count: int = 0
) -> tuple[Tally, dict[str, float]]:
    """Return what became of a closed load, and what it cost."""
    tree, own, started = server.cpu_seconds(), time.process_time(), time.perf_counter()
    tally = asyncio.run(closed(Target(server.port, requests), clients, seconds=seconds, count=count))
    took = time.perf_counter() - started
    right = len(tally.of(200))
    return tally, {
        "requests_per_s": right / took,
        "cpu_ms": 1000 * (server.cpu_seconds() - tree) / max(right, 1),
        "client_cpu_ms": 1000 * (time.process_time() - own) / max(right, 1),
    }


def overhead(seconds: float, bundle: Callable[[], str]) -> dict[str, Any]:
    """Let 16 clients ask a model that costs nothing, each server in turn, and give the medians of the rounds."""
    with contextlib.ExitStack() as stack:
        servers = {"headstart": (stack.enter_context(noop()), post("/predict", NOOP))}
        skipped = {}
        for name, (start, requests) in PEERS.items():
            python = peer(name)
            if python is None:
                skipped[name] = "no environment; see the top of serving.py"
                continue
            servers[name] = (stack.enter_context(start(python)), requests)
        costs: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        wrong = dict.fromkeys(servers, 0)
        for number in range(-1, TURNS):
            for name, (server, requests) in servers.items():
                tally, cost = loaded(server, requests, 16, seconds=2 * seconds / TURNS if number >= 0 else 0.5)
                wrong[name] += tally.wrong()
                if number >= 0:  # The first round warms up.
                    costs[name].append(cost)
        memory = {name: server.megabytes() for name, (server, _) in servers.items()}
    runs = {
        name: {key: round(float(np.median([each[key] for each in given])), 3) for key in given[0]}
        | {"megabytes": round(memory[name]), "wrong": wrong[name]}
        for name, given in costs.items()
    }
    return {"clients": 16, "target_cpu_ms": 0.30, "runs": runs, "skipped": skipped}


def mixed(seconds: float, bundle: Callable[[], str]) -> dict[str, Any]:
    """Answer texts of mixed lengths for 64 clients; beside it, LitServe, and the runtime with all texts at once.

    All take turns, and the medians of the rounds count: a machine is not equally fast all the time. For the same reason
    the runtime alone is measured before and after the server in each round, and the share is of the mean of both.
    """
    path = bundle()
    texts = mixed_texts(int(100 * seconds))
    skipped = {}
    servers: dict[str, Callable[[], Server]] = {
        "headstart": lambda: Server(
            headstart("serve", path, "--port", "{port}", "--queue-batches", 64, "--quiet"), "/health/ready"
        )
    }
    python = peer("litserve")
    if python is None:
        skipped["litserve"] = "no environment; see the top of serving.py"
    else:
        for kind in ("packed", "padded"):
            for batch in (16, 64):
                command = script("text_litserve", "{port}", path, kind, batch, python=python)
                servers[f"litserve, {kind}, batches of {batch}"] = lambda command=command: Server(command)
    costs: dict[str, list[dict[str, Any]]] = {"offline": []} | {name: [] for name in servers}
    wrong = dict.fromkeys(servers, 0)
    shares = []
    for round_ in range(PAIRS):
        costs["offline"].append({"requests_per_s": offline(path, texts)})
        for name, start in servers.items():
            if name != "headstart" and round_ >= ROUNDS:
                continue
            with start() as server:
                loaded(server, post("/predict", as_bodies(mixed_texts(64, seed=1))), 64, count=64)
                tally, cost = loaded(server, post("/predict", as_bodies(texts)), 64, seconds=2 * seconds)
            waits = {f"p{each}_ms": percentile(tally.of(200), each) for each in (50, 99)}
            if None in waits.values():
                raise SystemExit(f"{name} answered nothing.")
            costs[name].append(cost | waits)
            wrong[name] += tally.wrong()
            if name == "headstart":
                costs["offline"].append({"requests_per_s": offline(path, texts)})
                beside = [each["requests_per_s"] for each in costs["offline"][-2:]]
                shares.append(cost["requests_per_s"] / float(np.mean(beside)))
    runs = {
        name: {key: round(float(np.median([each[key] for each in given])), 2) for key in given[0]}
        | ({"wrong": wrong[name]} if name in wrong else {})
        for name, given in costs.items()
    }
    speeds = {name: each["requests_per_s"] for name, each in runs.items()}
    peers = {kind: [each for name, each in speeds.items() if kind in name] for kind in ("packed", "padded")}
    return {
        "texts": len(texts),
        "clients": 64,
        "rounds": PAIRS,
        "runs": runs,
        "shares": [round(each, 3) for each in shares],
        "each_round": {name: [round(each["requests_per_s"], 1) for each in given] for name, given in costs.items()},
        "skipped": skipped,
        "share_of_offline": round(float(np.median(shares)), 3),
        "ratio_to_litserve": {
            kind: round(speeds["headstart"] / max(its), 2) for kind, its in peers.items() if any(its)
        },
        "target_share_of_offline": 0.9,
        "target_ratio_to_litserve": 2.0,
    }


def offline(path: str, texts: list[str]) -> float:
    """Return how many texts a second the runtime answers that is given all of them at once."""
    from headstart.core.progress import Quiet
    from headstart.stages.model import open_targets

    runtime = open_targets(path, Quiet(), baselines=False).runtime
    runtime.predict_rows(mixed_texts(64, seed=1))
    started = time.perf_counter()
    runtime.predict_rows(texts)
    return len(texts) / (time.perf_counter() - started)


def overload(seconds: float, bundle: Callable[[], str]) -> dict[str, Any]:
    """Send twice as many texts as the server can answer, three times as long as the loads before."""
    requests = post("/predict", as_bodies(mixed_texts(2000)))
    command = headstart("serve", bundle(), "--port", "{port}", "--quiet")
    with Server(command, "/health/ready") as server:
        target = Target(server.port, requests)
        # As many clients as never are too many, so that none is refused.
        loaded(server, requests, 16, count=128)
        capacity = loaded(server, requests, 16, seconds=seconds)[1]["requests_per_s"]
        calm = asyncio.run(opened(target, capacity / 10, seconds)).of(200)
        allowed = 3 * float(np.percentile(calm, 99))
        before = {name: server.measure(name) for name in BATCHES}
        tally, health, recovery = asyncio.run(overloaded(target, 2 * capacity, 3 * seconds, allowed))
        batches, rows = (server.measure(name) - before[name] for name in BATCHES)
        peak = server.megabytes()
    batch = 3 * seconds / max(batches, 1)
    return {
        "capacity_per_s": round(capacity, 1),
        "sent_per_s": round(2 * capacity, 1),
        "seconds": 3 * seconds,
        "answers": tally.counts(),
        "unloaded_p99_ms": percentile(calm, 99),
        "batch_ms": round(1000 * batch, 1),
        "batch_rows": round(rows / max(batches, 1), 1),
        "accepted_p50_ms": percentile(tally.of(200), 50),
        "accepted_p99_ms": percentile(tally.of(200), 99),
        "target_accepted_p99_ms": round(1000 * (allowed + batch), 1),
        "rejected_p50_ms": percentile(tally.of(503), 50),
        "rejected_p99_ms": percentile(tally.of(503), 99),
        "target_rejected_ms": 50,
        "health_p99_ms": percentile(health.of(200), 99),
        "recovery_s": round(recovery, 2),
        "target_recovery_s": 1.0,
        "megabytes": round(peak),
    }


BATCHES = ("headstart_batch_items_count", "headstart_batch_items_sum")


async def overloaded(target: Target, rate: float, seconds: float, usual: float) -> tuple[Tally, Tally, float]:
    """Return what became of an open load, of health checks meanwhile, and how long afterwards answers took longer than
    `usual` seconds.
    """
    over = asyncio.Event()
    probe = Target(target.port, [b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"])
    checks = asyncio.ensure_future(asked_again(probe, 0.1, over.is_set))
    load = asyncio.ensure_future(opened(target, rate, seconds, over=over))
    await over.wait()
    ended = time.perf_counter()
    await asked_again(
        target,
        0.02,
        lambda: time.perf_counter() > ended + 20,
        until=lambda status, took: status == 200 and took < usual,
    )
    recovered = time.perf_counter() - ended
    return await load, await checks, recovered


SECTIONS: dict[str, Callable[[float, Callable[[], str]], dict[str, Any]]] = {
    "overhead": overhead,
    "mixed": mixed,
    "overload": overload,
    "growth": growth,
    "redeploy": redeploy,
    "storm": storm,
}

if __name__ == "__main__":
    main()
