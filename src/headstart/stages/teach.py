"""Teach: adapt what a network answers by itself (boxes, transcripts, texts), prove it, and write a bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart import hubs, methods, pipelines
from headstart.core import VERSION
from headstart.core.backbone import Network
from headstart.core.bundle import NETWORK, Bundle
from headstart.core.course import Course, Tuned
from headstart.core.errors import MissingExtra, ResourceError, UsageError, listed
from headstart.core.files import cache_folder
from headstart.core.method import Budget
from headstart.core.objective import Objective
from headstart.core.progress import Progress, timed
from headstart.core.recipe import Recipe
from headstart.core.source import ReadOptions
from headstart.core.threads import core_count
from headstart.stages.course import opened_for_training
from headstart.stages.exam import Exam, Sat, speed
from headstart.stages.ladder import Rung
from headstart.stages.material import Material, check_task, gather
from headstart.stages.networks import fetch, start, summary
from headstart.stages.pretrained import Pretrained
from headstart.stages.report import write_report
from headstart.stages.report.taught import NAMES, change
from headstart.stages.taught import open_taught, save_taught

USUAL = "finetune"
"""The method that `auto` stands for."""
UNTRAINED = {"transcribe": "builtin:ctc-small"}
"""Networks that learn all from the rows, by task, where `auto` finds none on this machine."""
WORDS = "words"
"""The one setting that is the objective's, not the method's: `whole` hides whole words."""


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
    words = str(recipe.options.get(WORDS, ""))
    with timed(timings, "read"):
        network = _network(task, recipe, progress)
        material = gather(source, test, task, recipe, words, options, progress)
        objective = material.objective
        ready = replace(network, **{"use": task, **objective.ready(network)})
        reason = pipelines.registry.get(task)().supports(ready)
        if reason:
            raise UsageError(f"'{network.backbone.reference}' cannot {task.replace('_', ' ')}: {reason}.")
    exam = Exam(objective, material.table(material.test), recipe.seed)
    with timed(timings, "judge before"):
        reason = objective.unable(network)
        before = None if reason else _before(exam, replace(network, use=task), progress)
    folder = _folder(material, task, ready, method, recipe)
    with timed(timings, "tune"):
        tuned = _tuned(method, ready, material, folder, recipe, budget, progress, resume)
        opened = replace(start(tuned.network), tuned=method)
    with timed(timings, "judge after"):
        after = exam.sat(opened.network, opened.session, progress)
    report = {
        **_report(task, material, exam, before, after, reason),
        "method": method if _has_weights(network) else f"{method}, from random weights",
        "backbone": summary({network.backbone.modality: opened}),
        "trained": dict(tuned.trained),
        "ladder": [asdict(each) for each in _ladder(method, tuned, material, timings)],
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
    shutil.rmtree(folder, ignore_errors=True)
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
    opened = start(network)
    return exam.sat(opened.network, opened.session, progress)


def _folder(material: Material, task: str, network: Network, method: str, recipe: Recipe) -> Path:
    """Return where the work is kept: the same for the same data, network, method and settings."""
    told = [
        VERSION,
        task,
        material.dataset.fingerprint(),
        [network.backbone.reference, network.backbone.checksum, network.backbone.weights],
        [material.train.tolist(), material.held.tolist()],
        [method, recipe.seed, dict(recipe.options)],
    ]
    digest = hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()
    return cache_folder() / "runs" / digest


def _tuned(
    name: str,
    network: Network,
    material: Material,
    folder: Path,
    recipe: Recipe,
    budget: Budget,
    progress: Progress,
    resume: bool,
) -> Tuned:
    objective = material.objective
    rows = np.concatenate([material.train, material.held])
    examples = objective.examples(network, material.table(rows), recipe.seed)
    for note in examples.notes:
        progress.say(note)
    held = Exam(objective, material.table(material.held), recipe.seed)
    course = Course(
        network=network,
        open=opened_for_training,
        examples=examples,
        train=np.arange(len(material.train)),
        held=np.arange(len(material.train), len(rows)),
        lessons={},
        folder=folder,
        seed=recipe.seed,
        budget=budget,
        threads=core_count(),
        progress=progress,
        judge=lambda session: held.score(network, session),
        resume=resume,
        options=_settings(objective, network, recipe),
    )
    method = methods.network_methods()[name]()
    reason = method.supports(course)
    if reason:
        raise UsageError(f"The method '{name}' cannot be used: {reason}.")
    if budget.left() <= 0:
        raise ResourceError("The budget is used up before training.", hint="Give a larger --budget, or fewer rows.")
    return method.tune(course)


def _settings(objective: Objective, network: Network, recipe: Recipe) -> dict[str, Any]:
    own = {name: value for name, value in recipe.options.items() if name != WORDS}
    return {**objective.plan(network), **own}


def _ladder(method: str, tuned: Tuned, material: Material, timings: Mapping[str, float]) -> list[Rung]:
    """Return what was compared on the rows to choose by: the network as training began, and as it ended."""
    objective = material.objective
    sign = 1 if objective.higher else -1
    why = f"{NAMES.get(objective.primary, objective.primary)} on {len(material.held):,} held-out training rows"
    first, last = (
        sign * each if each is not None and np.isfinite(each) else None
        for each in (next((each.score for each in tuned.race), None), tuned.score)
    )
    gain = None if first is None or last is None else sign * (last - first)
    seconds, size, trained = timings.get("tune", 0.0), tuned.network.backbone.size, dict(tuned.trained)
    began = Rung("as training begins", first, why=why)
    return [began, Rung(method, last, (), gain, seconds, size, kept=True, why=why, trained=trained)]


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
