"""What a learning curve promised and what came, and what choosing rows to label is worth.

    python benchmarks/curves.py forecast|next

forecast: from N labels the curve is measured as `headstart fit` does it, and the score at 8 N is forecast, beginning at
what the method itself reaches with N on rows that no curve saw; then it learns from 8 N and is judged on them.
next: labels are added to few by `headstart label-next`'s rule or at random; both are judged on the same rows.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
from data import table
from threadpoolctl import threadpool_limits

from headstart import methods
from headstart.core.arrays import joined_vectors, take
from headstart.core.method import Budget, Job
from headstart.core.metrics import softmax
from headstart.core.progress import Console, Quiet
from headstart.core.threads import core_count
from headstart.methods._quick import sampled, stand_ins
from headstart.modalities.text import Text
from headstart.stages.advice import ROWS
from headstart.stages.curve import HORIZON, measure
from headstart.stages.doubt import doubt
from headstart.stages.label_next import CROWD, commonness, spread
from headstart.stages.networks import DEFAULT, open_network
from headstart.stages.outlook import line_of, refusal
from headstart.stages.views import vectors_of
from headstart.tasks.classify import Classify

TABLES = {
    "banking77": ("banking77/train.csv", "text", "category", 924),
    "clinc150": ("clinc150/train.csv", "text", "intent", 900),
    "sst2": ("sst2/train.csv", "text", "label", 700),
    "twitter_airline": ("twitter_airline/tweets.csv", "text", "airline_sentiment", 700),
    "multidogo_chat": ("multidogo_chat/finance_train.csv", "utterance", "intent", 500),
    "sci_cite": ("sci_cite/train.csv", "text", "label", 350),
    "xlmt, English": ("xlmt_sentiment/english_train.csv", "text", "label", 190),
}
"""Table, columns, and N: 12 or 6 rows of a class where there are many, else an eighth of a few thousand rows."""
JUDGED = 1_200
DRAWS = 3


def job(name: str) -> tuple[Job, int]:
    """Return a table's rows, in an order in which every beginning has its share of each class, and N."""
    file, column, target, size = TABLES[name]
    rows = [row for row in table(file) if row.get("domain") != "oos"]
    _, number, count = np.unique([row[target] for row in rows], return_inverse=True, return_counts=True)
    rng, place = np.random.default_rng(0), np.full(len(rows), 9.0)
    for each in np.flatnonzero(count >= 16):
        some = rng.permutation(np.flatnonzero(number == each))
        place[some] = (np.arange(len(some)) + rng.random(len(some))) / len(some)
    kept = np.argsort(place)[: min(int(HORIZON) * size + JUDGED, int((place < 9).sum()))]
    cells = [rows[row][target] for row in kept]
    opened = open_network(DEFAULT["text"], "", Quiet())
    text = Text([column]).bind(opened.network)
    arrays = text.prepare({column: [rows[row][column] for row in kept]})
    features = {**arrays, "embedding": joined_vectors([vectors_of(text, opened, arrays, Console())])}
    task = Classify.of(target, cells)
    every = Job(task, task.encode(cells), features, np.arange(len(cells)), 0, Budget(), core_count(), Quiet())
    return every, size


def part(given: Job, rows: np.ndarray, seed: int = 0) -> Job:
    """Return the job of some rows."""
    return replace(
        given, y=given.y[rows], features=take(given.features, rows), groups=np.arange(len(rows)), seed=seed, memo={}
    )


def score(method: str, given: Job, rows: np.ndarray, judged: np.ndarray) -> float:
    """Return what a method learns from some rows, judged on others."""
    head = methods.head_methods()[method]().fit(part(given, rows)).head
    return float(given.task.correct(head.scores(take(given.features, judged)), given.y[judged]).mean())


def forecast() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in TABLES:
        given, size = job(name)
        judged = np.arange(len(given.y) - min(JUDGED, len(given.y) // 6), len(given.y))
        most = min(int(HORIZON) * size, int(judged[0]))
        for method in ("probe", "scratch"):
            later = score(method, given, np.arange(most), judged)
            draws = []
            for seed in range(DRAWS):
                # Every eighth row of the order, so that each draw has its share of every class.
                few = np.sort(np.random.default_rng(seed).permutation(most)[:size])
                if given.task.width > 20:
                    few = np.arange(seed, most, most // size)[:size]
                small = sampled(part(given, few, seed), ROWS["auto"])
                started = time.perf_counter()
                with threadpool_limits(1):
                    measured = measure(small, stand_ins(small)[method])
                line = line_of(small, measured, pretrained=method == "probe")
                seconds = time.perf_counter() - started
                now = score(method, given, few, judged)
                told = line.beyond(now, size, most)
                draws.append({"now": now, **told, "refused": refusal(line), "seconds": round(seconds, 2)})
            off = [100 * (each["score"] - later) for each in draws]
            inside = [each["low"] <= later <= each["high"] for each in draws]
            found[f"{name}: {method}"] = {
                **{
                    key: float(np.mean([each[key] for each in draws]))
                    for key in ("now", "score", "low", "high", "seconds")
                },
                "labels": size,
                "later_labels": most,
                "later": later,
                "off": off,
                "mean_off": float(np.mean(np.abs(off))),
                "inside": int(sum(inside)),
                "refused": [each["refused"] for each in draws if each["refused"]],
            }
            print(name, method, json.dumps(found[f"{name}: {method}"]), file=sys.stderr, flush=True)
    return found


def choose(given: Job, start: np.ndarray, rest: np.ndarray, count: int) -> np.ndarray:
    """Return the rows that `headstart label-next` would ask for, after learning from `start`."""
    learnt = stand_ins(part(given, start))["probe"]
    whole = stand_ins(part(given, np.concatenate([start, rest])))["probe"]
    small = part(given, np.concatenate([start, rest]))
    scores = replace(whole, ridge=learnt.ridge).scores(
        small, np.arange(len(start)), np.arange(len(start), len(small.y))
    )
    task = replace(given.task, temperature=_temperature(given, start))
    unsure, _ = doubt(task, scores, scores)
    points = given.features["embedding"][rest]
    crowd = points[np.random.default_rng(0).permutation(len(points))[:CROWD]]
    return rest[spread(unsure**2 * commonness(points, crowd), points, count)]


def _temperature(given: Job, rows: np.ndarray) -> float:
    small = part(given, rows)
    held_out = methods.head_methods()["probe"]().fit(small).held_out
    found = small.task.calibrate(held_out, small.y, 0.95).temperature
    assert np.isfinite(softmax(held_out / found)).all()
    return float(found)


def next_() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in list(TABLES)[:5]:
        given, _ = job(name)
        judged = np.arange(len(given.y) - JUDGED, len(given.y))
        pool = np.arange(min(judged[0], 4_000))
        start_size, added = max(200, 5 * given.task.width), 200
        scores: dict[str, list[float]] = {"before": [], "random": [], "label-next": []}
        for seed in range(DRAWS):
            rng = np.random.default_rng(seed)
            shuffled = rng.permutation(pool)
            start, rest = np.sort(shuffled[:start_size]), np.sort(shuffled[start_size:])
            for way, more in (
                ("before", rest[:0]),
                ("random", rng.permutation(rest)[:added]),
                ("label-next", choose(given, start, rest, added)),
            ):
                scores[way].append(score("probe", given, np.sort(np.concatenate([start, more])), judged))
        found[name] = {
            "labels": start_size,
            "added": added,
            **{way: float(np.mean(each)) for way, each in scores.items()},
        }
        print(name, found[name], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    print(json.dumps({"forecast": forecast, "next": next_}[sys.argv[1]](), indent=1))
