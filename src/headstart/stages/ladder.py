"""The ladder of methods: each rung that changes the network's weights is kept only where it wins on held-out rows."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart import heads, methods, modalities
from headstart.core import metrics
from headstart.core.arrays import joined_vectors, take
from headstart.core.course import Course, Tuned
from headstart.core.dataset import table_rows, take_rows
from headstart.core.errors import HubError, MissingExtra, ResourceError, UsageError
from headstart.core.head import Head
from headstart.core.method import Budget, NetworkMethod
from headstart.core.progress import Progress
from headstart.core.recipe import Recipe
from headstart.core.source import Table
from headstart.core.threads import process_count, process_rank
from headstart.runtime import Target, embedded
from headstart.stages import judge
from headstart.stages.course import Ground, held_rows
from headstart.stages.learn import Learnt
from headstart.stages.networks import start
from headstart.stages.prepare import Prepared
from headstart.stages.search import search
from headstart.stages.views import vectors_of

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Weights of the from-scratch model beside the tuned network's scores, each brought to the same spread."""
LAST = 0.1
"""Share of the budget that is left for judging and writing."""
SHORTEST = 1e-3
"""Seconds of a budget that has no room for a course: 0 would mean no limit."""
SAMPLE = 128
"""Rows whose embedding is timed."""
ORDER = ("finetune", "lora", "contrastive", "domain_pretrain")
"""In which order the rungs are tried; others come behind, by name."""


@dataclass(frozen=True)
class Rung:
    """One step of the ladder, as the report shows it."""

    name: str
    score: float | None = None
    interval: Sequence[float] = ()
    gain: float | None = None
    seconds: float = 0.0
    size: int = 0
    kept: bool = False
    why: str = ""
    trained: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Climbed:
    """Where the climb ended: what answers now, and every rung that was tried."""

    prepared: Prepared
    learnt: dict[str, Learnt]
    ladder: Sequence[Rung]
    folders: Sequence[Path] = ()


def rungs(recipe: Recipe) -> list[tuple[str, dict[str, Any]]]:
    """Return the methods that change weights and that the recipe asks for, each with its settings."""
    known = methods.network_methods()
    if recipe.method in known:
        return [(recipe.method, {})]
    if recipe.method != "auto" or not recipe.budget:
        return []
    order = [name for name in ORDER if name in known] + sorted(set(known) - set(ORDER))
    made: list[tuple[str, dict[str, Any]]] = []
    for name in order:
        if name == "finetune":
            made.append((name, {"frozen": "half"}))
        made.append((name, {}))
    return made


def climb(
    prepared: Prepared,
    learnt: dict[str, Learnt],
    recipe: Recipe,
    budget: Budget,
    progress: Progress,
    more: Table | None = None,
    *,
    resume: bool = False,
) -> Climbed:
    """Try the rungs in order, and keep what wins on held-out training rows by more than a standard error.

    A method that the user named is kept whatever it gives; the report says what it gave.
    """
    wanted = rungs(recipe)
    if not wanted:
        return Climbed(prepared, learnt, [])
    reason = _unfit(prepared)
    if reason:
        if recipe.method != "auto":
            raise UsageError(f"The method '{recipe.method}' cannot be used: {reason}.")
        progress.say(f"no network is tuned: {reason}")
        return Climbed(prepared, learnt, [Rung("finetune", why=reason)])
    held = held_rows(prepared, learnt, recipe.seed)
    ground = Ground(prepared, learnt, held, recipe, _for_tuning(prepared, budget), progress, more, resume)
    best = Climbed(prepared, learnt, [_first(learnt, held)])
    for name, options in wanted:
        rung, found = _try(name, options, ground, best)
        ladder, folders = [*best.ladder, rung], [*best.folders, ground.folder(name, options)]
        best = replace(found if rung.kept and found else best, ladder=ladder, folders=folders)
    return best


def _for_tuning(prepared: Prepared, budget: Budget) -> Budget:
    """Return the budget without what comes after a course: all rows are embedded anew, judged, and written."""
    if not budget.seconds:
        return budget
    modality, opened = next(iter(prepared.opened.items()))
    at = next(each for each in prepared.inputs if modalities.name_of(each) == modality)
    rows = table_rows(prepared.dataset.table)
    some = np.linspace(0, rows - 1, min(SAMPLE, rows)).astype(int)
    arrays = at.prepare(take_rows(prepared.dataset.table, some))
    started = time.monotonic()
    embedded(at, opened.session, arrays)
    embedding = (time.monotonic() - started) / len(some) * rows
    return replace(budget, seconds=max((1 - LAST) * budget.seconds - embedding, SHORTEST))


def _unfit(prepared: Prepared) -> str:
    if not prepared.opened:
        return "no pretrained network reads these inputs"
    if len(prepared.opened) > 1:
        return "several networks read these inputs, and one is tuned at a time"
    return ""


def _first(learnt: Mapping[str, Learnt], held: np.ndarray) -> Rung:
    right = np.concatenate([_right(each, each.held_scores(held), held) for each in learnt.values()])
    names = sorted({each.method for each in learnt.values()})
    seconds = sum(row["seconds"] for each in learnt.values() for row in each.race if row["name"] in each.fitted)
    return Rung(" + ".join(names), float(right.mean()), metrics.mean_interval(right), seconds=seconds, kept=True)


def _right(each: Learnt, scores: np.ndarray, held: np.ndarray) -> np.ndarray:
    return each.target.task.correct(scores, _answers(each, held))


def _answers(each: Learnt, held: np.ndarray) -> np.ndarray:
    return each.y[held[each.rows]]


def _try(name: str, options: dict[str, Any], ground: Ground, best: Climbed) -> tuple[Rung, Climbed | None]:
    started, recipe = time.monotonic(), ground.recipe
    shown = name + ("".join(f", {key} {value}" for key, value in options.items()))
    course = ground.course(name, options)
    try:
        method = methods.network_methods()[name]()
        reason = method.supports(course)
        if reason:
            raise UsageError(f"The method '{name}' cannot be used: {reason}.")
        reason = method.worthwhile(course) if recipe.method == "auto" else ""
        if reason:
            raise UsageError(f"Not tried: {reason}.")
        if ground.budget.left() <= 0:
            raise ResourceError("The budget is used up, but for what judging and writing take.")
        tuned = _tuned(method, course, recipe)
        found = _with(ground, tuned, name)
    except (UsageError, ResourceError, MissingExtra, HubError) as error:
        if recipe.method != "auto":
            raise
        ground.progress.say(f"{shown}: {error.problem}")
        return Rung(shown, why=error.problem, seconds=time.monotonic() - started), None
    seconds = time.monotonic() - started
    rung = _compared(shown, best, found, ground.held, tuned, seconds, forced=recipe.method != "auto")
    ground.progress.say(f"{shown}: {rung.score:.3f}, {rung.why}")
    return rung, found


def _tuned(method: NetworkMethod, course: Course, recipe: Recipe) -> Tuned:
    """Return what the method gives, with searched settings where the recipe asks for a search."""
    if not recipe.search:
        return method.tune(course)
    found = search(method, course, recipe.search)
    told = {"search": [vars(each) for each in found.trials], "settings": dict(found.options)}
    return replace(found.tuned, trained={**found.tuned.trained, **told})


def _compared(
    name: str, best: Climbed, found: Climbed, held: np.ndarray, tuned: Tuned, seconds: float, *, forced: bool
) -> Rung:
    theirs = np.concatenate([_right(each, each.held_scores(held), held) for each in best.learnt.values()])
    ours = np.concatenate([_right(each, each.held_scores(held), held) for each in found.learnt.values()])
    difference = ours - theirs
    error = float(difference.std() / np.sqrt(len(difference)))
    gain = float(difference.mean())
    kept = forced or gain > error
    words = f"{100 * gain:+.1f} points ± {100 * error:.1f} on {len(ours):,} held-out answers"
    end = "kept, as it was asked for" if forced else "kept" if kept else "not kept, for it costs more"
    why = f"{words}: {end}"
    return Rung(
        name,
        float(ours.mean()),
        metrics.mean_interval(ours),
        gain,
        seconds,
        int(tuned.trained.get("adapter", {}).get("bytes", tuned.network.backbone.size)),
        kept,
        why,
        tuned.trained,
    )


def forget(climbed: Climbed) -> None:
    """Remove what the rungs kept, once the bundle holds what is needed of it."""
    remove(climbed.folders)


def remove(folders: Sequence[Path]) -> None:
    """Remove folders that the processes of a job share, once none of them reads them any more."""
    if process_count() > 1:
        from headstart.training.processes import wait

        wait()
    if not process_rank():
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _with(ground: Ground, tuned: Tuned, method: str) -> Climbed:
    """Return all that there is with the tuned network in place of the old one, and its heads."""
    prepared, learnt = ground.prepared, ground.learnt
    modality, old = next(iter(prepared.opened.items()))
    network = replace(tuned.network, preprocessing=old.network.preprocessing)
    base = old.network if tuned.adapter else None
    running = replace(start(network), view=old.view, tuned=method, adapter=tuned.adapter, base=base)
    inputs = [each.bind(network) if modalities.name_of(each) == modality else each for each in prepared.inputs]
    at = next(each for each in inputs if modalities.name_of(each) == modality)
    vectors = joined_vectors([vectors_of(at, running, at.prepare(prepared.dataset.table), ground.progress)])
    features = {**prepared.features, "embedding": vectors}
    now = replace(prepared, inputs=inputs, opened={modality: running}, features=features, more=())
    made = {name: _relearnt(now, each, tuned.heads[name], method, ground) for name, each in learnt.items()}
    return Climbed(now, made, [])


def _relearnt(prepared: Prepared, old: Learnt, head: Head, method: str, ground: Ground) -> Learnt:
    """Return a target with a tuned head, beside the from-scratch model where that helps; calibrated on held rows."""
    mask = ground.held[old.rows]
    rows, y = old.rows[mask], old.y[mask]
    scores = head.scores(take(prepared.features, rows))
    task = old.target.task
    if "scratch" in old.fitted and task.width > 1:
        head, scores = _blended(task, head, scores, old.fitted["scratch"].head, old.fitted["scratch"].held_out[mask], y)
    calibrated = task.calibrate(scores, y, ground.recipe.precision_target)
    signal = judge.has_signal(calibrated, scores, y)
    if not signal:
        calibrated = calibrated.without_signal()
        head = heads.registry.get("constant").of({}, {"values": calibrated.majority()})
    target = Target(calibrated, head, old.target.baseline)
    return replace(old, target=target, method=method, signal=signal, tuned_held=scores)


def _blended(
    task: Any, head: Head, scores: np.ndarray, other: Head, theirs: np.ndarray, y: np.ndarray
) -> tuple[Head, np.ndarray]:
    """Return the head beside the from-scratch one, where held rows are more likely so."""
    merit = methods.merit
    scale = float(scores.std() / max(theirs.std(), 1e-9))
    best = max(WEIGHTS, key=lambda each: merit(task, scores + each * scale * theirs, y))
    if not best:
        return head, scores
    made = heads.registry.get("blend")([(1.0, head), (best * scale, other)])  # type: ignore[call-arg]
    return made, scores + best * scale * theirs
