"""The ladder of a network that answers by itself: each rung is kept only where it wins on held-out training rows."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart import methods
from headstart.core import VERSION
from headstart.core.backbone import Network
from headstart.core.course import Course, Examples, Tuned
from headstart.core.errors import HubError, MissingExtra, ResourceError, UsageError, listed, nearest
from headstart.core.files import cache_folder
from headstart.core.method import Budget, NetworkMethod
from headstart.core.progress import Progress
from headstart.core.recipe import Recipe
from headstart.core.threads import core_count
from headstart.stages.course import opened_for_training, settings_of
from headstart.stages.exam import Exam, Sat
from headstart.stages.ladder import LAST, SHORTEST, Rung
from headstart.stages.material import Material
from headstart.stages.networks import Opened, start
from headstart.stages.report.taught import NAMES

WAYS: tuple[tuple[str, Mapping[str, Any]], ...] = (("finetune", {"frozen": "half"}), ("finetune", {}), ("lora", {}))
"""The rungs, in order."""
AS_IT_IS = "as it is"
WHOLE_INTERVAL = 2 * 1.96
"""Standard errors that a 95 % interval is wide."""
OWN = {"fill_mask": ("words",), "transcribe": ("beams",)}
"""Settings that are the objective's, not the method's, by task: `words` may be `whole`; `beams` of letters."""


@final
@dataclass(frozen=True)
class Climbed:
    """What answers now, and how it came to that.

    Args:
        method: what has tuned the network, or `AS_IT_IS` where nothing won.
        opened: the network, running.
        trained: what is told of its course.
        ladder: every rung that was tried.
    """

    method: str
    opened: Opened
    trained: Mapping[str, Any]
    ladder: list[Rung]


@final
@dataclass(frozen=True)
class Classroom:
    """What a network learns from.

    Args:
        task: what it learns to do.
        network: as it is, ready for such answers.
        unable: why it gives none yet, or empty.
        budget: what learning may take.
    """

    task: str
    network: Network
    unable: str
    material: Material
    recipe: Recipe
    budget: Budget
    progress: Progress
    resume: bool

    @property
    def climbs(self) -> bool:
        """Whether several methods are tried."""
        return self.recipe.method == "auto" and bool(self.recipe.budget)

    @cached_property
    def exam(self) -> Exam:
        """The held-out training rows."""
        return Exam(self.material.objective, self.material.table(self.material.held), self.recipe.seed)

    @cached_property
    def examples(self) -> Examples:
        """The rows to learn from, and behind them those held out."""
        rows = np.concatenate([self.material.train, self.material.held])
        found = self.material.objective.examples(self.network, self.material.table(rows), self.recipe.seed)
        for note in found.notes:
            self.progress.say(note)
        return found

    def course(self, name: str, options: Mapping[str, Any]) -> Course:
        """Return what a method learns from, with some settings in place of the recipe's."""
        learnt, held = len(self.material.train), len(self.material.held)
        return Course(
            network=self.network,
            open=opened_for_training,
            examples=self.examples,
            train=np.arange(learnt),
            held=np.arange(learnt, learnt + held),
            lessons={},
            folder=self.folder(name, options),
            seed=self.recipe.seed,
            budget=self.budget,
            threads=core_count(),
            progress=self.progress,
            judge=lambda session: self.exam.score(self.network, session),
            resume=self.resume,
            options={**self._settings(name), **options},
        )

    def _settings(self, name: str) -> dict[str, Any]:
        objective, recipe = self.material.objective, self.recipe
        keeps = methods.network_methods()[name].keeps
        known = settings_of([name]) if self.climbs else recipe.options
        own = {
            key: value
            for key, value in recipe.options.items()
            if key in known and key not in OWN.get(self.network.use, ())
        }
        return {key: value for key, value in objective.plan(self.network).items() if key not in keeps} | own

    def folder(self, name: str, options: Mapping[str, Any]) -> Path:
        """Return where a method keeps its work: the same for the same data, network and settings."""
        material, backbone = self.material, self.network.backbone
        told = [
            VERSION,
            self.task,
            material.dataset.fingerprint(),
            [backbone.reference, backbone.checksum, backbone.weights],
            [material.train.tolist(), material.held.tolist()],
            [name, self.recipe.seed, {**self.recipe.options, **options}],
        ]
        digest = hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()
        return cache_folder() / "runs" / digest


def for_tuning(budget: Budget, judging: float) -> Budget:
    """Return the budget without the time that judging, in seconds, and writing take after a course."""
    if not budget.seconds:
        return budget
    return replace(budget, seconds=max((1 - LAST) * budget.seconds - judging, SHORTEST))


def taught_by(name: str, room: Classroom) -> Climbed:
    """Tune the network by one method, whatever it gives.

    Raises:
        UsageError: the method cannot be used.
        ResourceError: the budget has no room for it.
    """
    started = time.monotonic()
    tuned = _tuned(methods.network_methods()[name](), name, room.course(name, {}), room)
    ladder = _two(name, tuned, room.material, time.monotonic() - started)
    return Climbed(name, replace(start(tuned.network), tuned=name), tuned.trained, ladder)


def climb(room: Classroom) -> Climbed:
    """Try the rungs in order, and keep what wins on held-out rows by more than a standard error.

    Raises:
        ResourceError: no method could be tried.
        UsageError: there is a setting that none of them has.
    """
    _check_settings(room)
    best: Climbed | None = None
    sat: Sat | None = None
    ladder = [Rung(AS_IT_IS, why=room.unable)]
    if not room.unable:
        opened = start(room.network, progress=room.progress)
        sat = room.exam.sat(opened.network, opened.session, room.progress)
        best = Climbed(AS_IT_IS, opened, {}, [])
        ladder = [replace(_rung(AS_IT_IS, room.exam, sat), kept=True)]
    for name, options in WAYS:
        if ladder[-1].trained.get("plan", {}).get("frozen") == 0 and name == "finetune":
            continue  # Half of no blocks was none, so that all of it has been tuned already.
        rung, found, theirs = _try(name, options, room, sat)
        ladder.append(rung)
        if found is not None and rung.kept:
            best, sat = found, theirs
    if best is None or all(each.score is None for each in ladder[1:]):
        reasons = " ".join(f"{each.name}: {each.why}" for each in ladder[1:])
        raise ResourceError(f"No method could be tried. {reasons}", hint="Give a larger --budget.")
    return replace(best, ladder=ladder)


def _check_settings(room: Classroom) -> None:
    known = settings_of([name for name, _ in WAYS]) | set(OWN.get(room.task, ()))
    for name in room.recipe.options:
        if name not in known:
            raise UsageError(
                f"There is no setting '{name}'.",
                allowed=f"Settings: {listed(sorted(known), 40)}.",
                hint=nearest(name, known),
            )


def _try(
    name: str, options: Mapping[str, Any], room: Classroom, best: Sat | None
) -> tuple[Rung, Climbed | None, Sat | None]:
    started, exam = time.monotonic(), room.exam
    shown = name + "".join(f", {key} {value}" for key, value in options.items())
    try:
        tuned = _tuned(methods.network_methods()[name](), name, room.course(name, options), room)
        opened = replace(start(tuned.network), tuned=name)
        sat = exam.sat(opened.network, opened.session, room.progress)
    except (UsageError, ResourceError, MissingExtra, HubError) as error:
        room.progress.say(f"{shown}: {error.problem}")
        return Rung(shown, why=error.problem, seconds=time.monotonic() - started), None, None
    rung, why, kept = _rung(shown, exam, sat), "the first that gives such answers: kept", True
    gain, spread = _gain(exam, best, sat)
    if gain is not None:
        kept = gain > spread
        why = f"{gain:+.4f} ± {spread:.4f} on held-out training rows: {'kept' if kept else 'not kept'}"
    room.progress.say(f"{shown}: {why}")
    rung = replace(
        rung,
        gain=gain,
        seconds=time.monotonic() - started,
        size=tuned.network.backbone.size,
        kept=kept,
        why=why,
        trained=dict(tuned.trained),
    )
    return rung, Climbed(name, opened, tuned.trained, []), sat


def _tuned(method: NetworkMethod, name: str, course: Course, room: Classroom) -> Tuned:
    reason = method.supports(course)
    if reason:
        raise UsageError(f"The method '{name}' cannot be used: {reason}.")
    if room.budget.left() <= 0:
        raise ResourceError(
            "The budget is used up, but for what judging and writing take.", hint="Give a larger --budget."
        )
    return method.tune(course)


def _two(name: str, tuned: Tuned, material: Material, seconds: float) -> list[Rung]:
    """Return what was compared on the rows to choose by: the network as training began, and as it ended."""
    objective = material.objective
    sign = 1 if objective.higher else -1
    why = f"{NAMES.get(objective.primary, objective.primary)} on {len(material.held):,} held-out training rows"
    first, last = (
        sign * each if each is not None and np.isfinite(each) else None
        for each in (next((each.score for each in tuned.race), None), tuned.score)
    )
    gain = None if first is None or last is None else sign * (last - first)
    size, trained = tuned.network.backbone.size, dict(tuned.trained)
    began = Rung("as training begins", first, why=why)
    return [began, Rung(name, last, (), gain, seconds, size, kept=True, why=why, trained=trained)]


def _rung(name: str, exam: Exam, sat: Sat) -> Rung:
    primary = exam.objective.primary
    score = sat.figures.get(primary)
    interval = sat.figures.get(f"{primary}_ci") or ()
    return Rung(name, None if score is None else float(score), tuple(interval))


def _gain(exam: Exam, before: Sat | None, after: Sat) -> tuple[float | None, float]:
    """Return how much better the answers are, and its standard error; None where there were none before."""
    if before is None:
        return None, 0.0
    objective = exam.objective
    first, second = before.figures.get(objective.primary), after.figures.get(objective.primary)
    if first is None or second is None:
        return None, 0.0
    gain = float(second - first) if objective.higher else float(first - second)
    interval = exam.gain(before, after)
    return gain, (interval[1] - interval[0]) / WHOLE_INTERVAL if interval else 0.0
