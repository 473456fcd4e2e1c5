"""Trials: what smaller forms of a model give and take, measured side by side, and which of them are kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core import metrics
from headstart.core.arrays import take
from headstart.core.bundle import NETWORK, Bundle
from headstart.core.dataset import take_rows
from headstart.core.files import write_json
from headstart.core.progress import Progress
from headstart.stages import gate
from headstart.stages.ground import Ground
from headstart.stages.report import write_report
from headstart.stages.report.wording import tidy
from headstart.stages.save import save
from headstart.stages.smaller import Variant, Workshop

TIMED = 256
"""Judged rows that are timed."""
FILES = 16
"""Files of a timed batch."""
ASKED = 20
"""Rows that a process answers whose memory is measured."""
WHOLE = "as it is"
MEMORY = """
import json, sys
from headstart.stages.model import open_targets
model = open_targets(sys.argv[1])
model.runtime.predict(json.load(open(sys.argv[2], encoding="utf-8")))
# What getrusage tells is never less than what the process had that started this one.
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@dataclass(frozen=True)
class Trial:
    """What was measured of one smaller form.

    Args:
        accuracy: by target, the primary metric on the judged rows with its 95 % interval.
        drop: by target, points lost and the bound that they are below with 95 % confidence.
        agreement: share of answers that are as before.
        size: bytes of all that is needed to answer.
        memory: peak bytes of a process that opens it and answers; 0 where it was not measured.
        faster: beyond noise.
        kept: whether it is one of those that none other is better than in every way.
        chosen: whether it was written.
        why: a sentence.
        unit: what `drop` is counted in.
    """

    name: str
    why: str = ""
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    drop: Mapping[str, Any] = field(default_factory=dict)
    agreement: float | None = None
    speed: Mapping[str, float] = field(default_factory=dict)
    pace: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    memory: int = 0
    kept: bool = False
    chosen: bool = False
    unit: str = "points"


def time_all(made: Mapping[str, Variant], rows: Ground, progress: Progress) -> dict[str, gate.Timing]:
    """Time all forms on the same judged rows, side by side."""
    some = np.random.default_rng(0).permutation(len(rows.judged))[:TIMED]
    columns = {name: rows.judged.table[name] for each in made[WHOLE].inputs for name in each.columns}
    files = any(each.files for each in made[WHOLE].inputs)
    progress.say(f"timing {len(made)} models, one after the other, {gate.ROUNDS} times")
    runtimes = {name: each.runtime() for name, each in made.items()}
    return gate.timed(runtimes, take_rows(columns, some), many=FILES if files else gate.MANY)


@dataclass(frozen=True)
class Answers:
    """What a model answers to the judged rows: scores, how good each is, and the answers, by target."""

    features: Mapping[str, np.ndarray]
    right: Mapping[str, np.ndarray]
    answers: Mapping[str, list[Any]]
    rows: Mapping[str, np.ndarray]
    y: Mapping[str, np.ndarray]


def answers_of(variant: Variant, rows: Ground) -> Answers:
    """Return what a form answers to the judged rows."""
    features = rows.judged.features(variant.opened)
    right, answers, numbers, truths = {}, {}, {}, {}
    for name, target in variant.targets.items():
        which = rows.labelled(name, judged=True)
        y = target.task.encode([rows.judged.table[name][row] for row in which])
        scores = target.head.scores(take(features, which))
        right[name], answers[name] = target.task.correct(scores, y), target.task.decode(scores)[name]
        numbers[name], truths[name] = which, y
    return Answers(features, right, answers, numbers, truths)


def judged(
    workshop: Workshop, variant: Variant, own: Answers, before: Answers, clock: Mapping[str, gate.Timing]
) -> Trial:
    """Return what was measured of a form.

    Args:
        own, before: its answers, and those of the model as it is.
        clock: how long all forms took; the doubt of 5 % in a bound is shared out among them.
    """
    accuracy, drops, same = {}, {}, []
    for name, target in variant.targets.items():
        share = target.task.primary == "accuracy"
        ends = (
            metrics.wilson(own.right[name].sum(), len(own.right[name]))
            if share
            else metrics.mean_interval(own.right[name])
        )
        accuracy[name] = {"value": float(own.right[name].mean()), "ci": ends, "metric": target.task.primary}
        drops[name] = asdict(gate.drop(before.right[name], own.right[name], share, forms=len(clock) - 1))
        same.append(gate.agreement(before.answers[name], own.answers[name]))
    size, memory = _weighed(workshop, variant)
    return Trial(
        variant.name,
        accuracy=accuracy,
        drop={} if variant.name == WHOLE else drops,
        agreement=float(np.mean(same)),
        speed=clock[variant.name].figures(clock[WHOLE] if variant.name != WHOLE else None),
        pace={} if variant.name == WHOLE else asdict(gate.pace(clock[WHOLE], clock[variant.name])),
        size=size,
        memory=memory,
    )


def _weighed(workshop: Workshop, variant: Variant) -> tuple[int, int]:
    """Return the bytes that a form takes on disk and, at its peak, in the memory of a process that answers."""
    place = workshop.folder / "bundles" / variant.name.replace(" ", "_").replace(",", "")
    save_variant(place, workshop, variant, {"kind": "fit"})
    outside = sum(each.network.backbone.size for each in variant.opened.values() if not each.spec(False)["portable"])
    size = Bundle.open(place).size() + outside
    inputs = workshop.whole.inputs
    if any(each.files for each in inputs):
        return size, 0
    columns = take_rows(
        {name: workshop.ground.judged.table[name] for each in inputs for name in each.columns}, range(ASKED)
    )
    asked = workshop.folder / "asked.json"
    asked.write_text(json.dumps(columns, default=str), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(place), str(asked)], capture_output=True, text=True, timeout=300
    )
    return size, int(done.stdout.split()[-1]) * 1024 if done.returncode == 0 else 0


def save_variant(
    place: Path, workshop: Workshop, variant: Variant, report: Mapping[str, Any], found: Mapping[str, Any] | None = None
) -> None:
    """Write a form as a bundle, with `found`, all that was measured, beside it."""
    # What was carried inside the bundle still is, and so is what no hub has.
    carried = any(each.network.folder.is_relative_to(workshop.home) for each in workshop.whole.opened.values())
    with Bundle.create(place, NETWORK) as part:
        save(part, workshop.recipe, variant.inputs, variant.targets, variant.opened, carried)
        write_report(part, dict(report))
        if found is not None:
            write_json(part / "compress.json", tidy(found))


def decided(trials: Mapping[str, Trial], most: float, rows: int) -> list[Trial]:
    """Return all trials with what became of them; the first is the model as it is."""
    passed = {name: each for name, each in trials.items() if name != WHOLE and not _refusal(each, most, rows)}
    merits = {name: _merit(each) for name, each in {WHOLE: trials[WHOLE], **passed}.items()}
    front = [name for name in gate.pareto(merits) if name != WHOLE]
    chosen = max(front, key=lambda name: _gain(trials[name]), default="")
    found = []
    for name, each in trials.items():
        why = each.why or _refusal(each, most, rows)
        if name in passed:
            why = "kept" if name in front else "another one is better in every way"
        if name == chosen:
            why = "chosen: the fastest that is shown to answer as well"
        found.append(replace(each, why="" if name == WHOLE else why, kept=name in front, chosen=name == chosen))
    return found


def _gain(trial: Trial) -> float:
    return float(trial.pace["latency"] * trial.pace["throughput"])


def _merit(trial: Trial) -> gate.Merit:
    signed = [each["value"] if each.get("higher", True) else -each["value"] for each in trial.accuracy.values()]
    accuracy = float(np.mean(signed))
    return gate.Merit(accuracy, -trial.speed["p50_ms"], trial.speed["rows_per_s"], -float(trial.size))


def _refusal(trial: Trial, most: float, rows: int) -> str:
    """Return why a form is not kept; empty where it may be."""
    if trial.why:
        return trial.why
    if not trial.pace:
        return ""
    if not trial.pace["faster"]:
        return "not faster beyond the noise of the runs"
    worst = max(trial.drop.values(), key=lambda each: each["bound"])
    if worst["points"] > most:
        return f"it loses {worst['points']:.2f} {trial.unit}, more than {most:g}"
    if worst["bound"] > most:
        return (
            f"{rows:,} rows do not show that it loses no more than {most:g} {trial.unit}: it may lose "
            f"{worst['bound']:.2f} "
            "(more rows with --test, or a larger --max-drop)"
        )
    return ""
