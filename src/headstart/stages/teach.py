"""Teach: adapt what a network answers by itself (boxes, transcripts, texts), prove it, and write a bundle."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headstart import hubs, methods, pipelines
from headstart.core import VERSION
from headstart.core.backbone import Network
from headstart.core.bundle import NETWORK, Bundle
from headstart.core.errors import MissingExtra, UsageError, listed
from headstart.core.method import Budget
from headstart.core.objective import Objective
from headstart.core.progress import Progress, timed
from headstart.core.recipe import Recipe
from headstart.core.source import ReadOptions
from headstart.stages.exam import Exam, Sat, speed
from headstart.stages.ladder import remove
from headstart.stages.material import Material, check_task, gather
from headstart.stages.networks import DEFAULT, fetch, start, summary
from headstart.stages.pretrained import Pretrained
from headstart.stages.report import write_report
from headstart.stages.report.taught import change
from headstart.stages.taught import open_taught, save_taught
from headstart.stages.teach_ladder import OWN, WAYS, Classroom, climb, for_tuning, taught_by

USUAL = "finetune"
"""The method that `auto` stands for where there is no budget to climb a ladder with."""
COMMON = {"embed": DEFAULT["text"]}
"""Networks that `auto` stands for, by task."""
UNTRAINED = {"transcribe": "builtin:ctc-small"}
"""Networks that learn all from the rows, by task, where `auto` finds none on this machine."""


def teach(
    source: Any,
    test: Any,
    task: str,
    recipe: Recipe,
    options: ReadOptions,
    place: Path,
    progress: Progress,
    resume: bool,
) -> Pretrained:
    """Tune a network's own answers on a table, judge it before and after, write a bundle, and return it opened.

    Args:
        test: another table to judge on, or None.
        task: a name of `objectives/`.

    Raises:
        HeadstartError: with what is wrong, what is allowed and what to do.
    """
    check_task(task)
    budget, timings = Budget(recipe.budget), dict[str, float]()
    method = _method(recipe)
    own = {name: str(recipe.options[name]) for name in OWN.get(task, ()) if name in recipe.options}
    with timed(timings, "read"):
        network = _network(task, recipe, progress)
        material = gather(source, test, task, recipe, own, options, progress)
        objective = material.objective
        ready = replace(network, **{"use": task, **objective.ready(network)})
        reason = pipelines.registry.get(task)().supports(ready)
        if reason:
            raise UsageError(f"'{network.backbone.reference}' cannot {task.replace('_', ' ')}: {reason}.")
    exam = Exam(objective, material.table(material.test), recipe.seed)
    with timed(timings, "judge before"):
        reason = objective.unable(network)
        before = None if reason else _before(exam, ready, progress)
    left = for_tuning(budget, timings["judge before"])
    room = Classroom(task, ready, reason, material, recipe, left, progress, resume)
    with timed(timings, "tune"):
        climbed = climb(room) if room.climbs else taught_by(method, room)
        opened = climbed.opened
    with timed(timings, "judge after"):
        after = exam.sat(opened.network, opened.session, progress)
    report = {
        **_report(task, material, exam, before, after, reason),
        "method": climbed.method if _has_weights(network) else f"{climbed.method}, from random weights",
        "backbone": summary({network.backbone.modality: opened}),
        "trained": dict(climbed.trained),
        "ladder": [asdict(each) for each in climbed.ladder],
        "speed": speed(exam, opened.network, opened.session, opened.precision, recipe.hourly_price),
        "headstart": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": asdict(recipe),
        "bundle": str(place),
        "seconds": time.monotonic() - budget.started,
        "timings": timings,
    }
    with Bundle.create(place, NETWORK) as part:
        save_taught(part, recipe, task, objective, opened)
        write_report(part, report)
    progress.say(f"wrote {place}")
    remove([room.folder(name, options) for name, options in (WAYS if room.climbs else [(method, {})])])
    return open_taught(place, progress)


def _method(recipe: Recipe) -> str:
    known = methods.network_methods()
    name = USUAL if recipe.method == "auto" else recipe.method
    if name not in known:
        methods.registry.get(name)
        raise UsageError(
            f"The method '{name}' leaves the network as it is, and so its own answers.",
            allowed=f"Methods: {listed(known)}.",
        )
    return name


def _network(task: str, recipe: Recipe, progress: Progress) -> Network:
    """Return the network that is to learn.

    Raises:
        UsageError: none is named, and there is no usual one.
    """
    reference = recipe.backbone
    if reference == "auto":
        reference = _usual_network(task)
        progress.say(f"network: {reference}; --backbone names another one")
    if "," in reference:
        raise UsageError(f"'{reference}' names several networks.", allowed="One network learns to answer.")
    return fetch(reference, "", progress, recipe.weights)


def _usual_network(task: str) -> str:
    if task in COMMON:
        return COMMON[task]
    held = []
    for name in hubs.registry.names():
        try:
            held += [each.backbone for each in hubs.registry.get(name)().held()]
        except MissingExtra:
            continue
    able = [each.reference for each in sorted(held, key=lambda each: each.size) if task in each.uses]
    if not able and task not in UNTRAINED:
        raise UsageError(
            f"Which network is to learn to {task.replace('_', ' ')}? There is none on this machine.",
            allowed="A reference such as hf:owner/name, torchvision:NAME or local:path/to/folder.",
            hint="Name it with --backbone; headstart models finds some.",
        )
    return able[0] if able else UNTRAINED[task]


def _has_weights(network: Network) -> bool:
    return network.weights.suffix != ".json" or network.weights.name.endswith(".index.json")


def _before(exam: Exam, network: Network, progress: Progress) -> Sat:
    opened = start(network, progress=progress)
    return exam.sat(opened.network, opened.session, progress)


def _report(task: str, material: Material, exam: Exam, before: Sat | None, after: Sat, reason: str) -> dict[str, Any]:
    objective, dataset = material.objective, material.dataset
    gain = exam.gain(before, after) if before else None
    told = {
        "kind": "fit",
        "task": task,
        "primary": objective.primary,
        "higher_is_better": objective.higher,
        "metrics": dict(after.figures),
        "before": dict(before.figures) if before else None,
        "not_before": reason,
        "gain": _gained(objective, before, after),
        "gain_ci": gain,
        "rows": len(material.test),
        "data": {
            "origin": dataset.origin,
            "rows": len(dataset),
            "train_rows": len(material.train) + len(material.held),
            "held_rows": len(material.held),
            "test_rows": len(material.test),
            "test_origin": material.test_origin,
            "fingerprint": dataset.fingerprint(),
            "inputs": {name: list(columns) for name, columns in dataset.inputs.items()},
            "target": objective.columns[1],
            "notes": list(dataset.notes),
            "warnings": list(material.warnings),
            "twins": dict(material.twins),
        },
    }
    return told | {"verdict": change(told)}


def _gained(objective: Objective, before: Sat | None, after: Sat) -> float | None:
    if before is None:
        return None
    first, second = before.figures.get(objective.primary), after.figures.get(objective.primary)
    if first is None or second is None:
        return None
    return float(second - first if objective.higher else first - second)
