"""Students: smaller networks that are trained to answer as the whole one does. They need PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from headstart import methods
from headstart.core.arrays import joined_vectors, take
from headstart.core.backbone import Network
from headstart.core.course import Course, Lesson
from headstart.core.errors import UsageError
from headstart.core.method import Budget
from headstart.core.split import hold_out
from headstart.core.threads import core_count
from headstart.methods._imitation import imitated
from headstart.runtime import Target
from headstart.stages.course import HELD, MOST_HELD, opened_for_training
from headstart.stages.examples import examples_of
from headstart.stages.networks import start
from headstart.stages.smaller import Variant, Workshop
from headstart.stages.views import vectors_of

TEXT = "text"


def imitating(shop: Workshop, make: Callable[[], Variant], seconds: float) -> Variant:
    """Return a smaller form whose text encoder was trained to give the vectors of the whole one on the training texts.

    Args:
        make: makes the form as it is without training.
        seconds: that the training may take; no epoch is begun that would not end within it.

    Raises:
        MissingExtra: PyTorch is not installed.
        ResourceError: there is no time for one epoch.
    """
    small = make()
    tuned = imitated(_course(shop, small.opened[TEXT].network, seconds, {}, {}), _vectors(shop))
    found = _with(shop, small, tuned.network, f"{small.name}, trained")
    return replace(found, refit=lambda: shop.heads_for(found))


def distilled(shop: Workshop, layers: int, seconds: float) -> Variant:
    """Return a form whose text encoder is a student of so many layers: it learns labels and a tuned teacher's answers.

    Its heads come out of the training, and are calibrated on training rows that were held out of it.

    Args:
        seconds: that teacher and student may take together.

    Raises:
        MissingExtra: PyTorch is not installed.
        ResourceError: there is no time for one epoch.
        UsageError: the model has another network or head than a student could stand in for, or not so many layers.
    """
    whole, method = shop.whole, methods.network_methods()["distill"]()
    if list(whole.opened) != [TEXT]:
        raise UsageError("Only a model whose one network reads texts can be distilled.")
    lessons = {name: _lesson(shop, name) for name, each in whole.targets.items() if "embedding" in each.head.reads}
    course = _course(shop, whole.opened[TEXT].network, seconds, {"layers": layers}, lessons)
    course = replace(course, vectors=_vectors(shop))
    reason = method.supports(course)
    if reason:
        raise UsageError(f"This model cannot be distilled: {reason}.")
    tuned = method.tune(course)
    found = _with(shop, whole, tuned.network, f"distilled to {layers} layers")
    features = shop.rows().features(found.opened)
    targets = dict(whole.targets)
    for name, lesson in lessons.items():
        held = course.held[lesson.known[course.held]]
        scores = tuned.heads[name].scores(take(features, held))
        task = targets[name].task.calibrate(scores, lesson.y[held], shop.recipe.precision_target)
        targets[name] = Target(task, tuned.heads[name], targets[name].baseline)
    return replace(found, targets=targets)


def _course(
    shop: Workshop, network: Network, seconds: float, options: Mapping[str, Any], lessons: Mapping[str, Lesson]
) -> Course:
    """Return what a network learns from: the training texts, some of them held out."""
    rows, groups, seed = shop.rows(), shop.ground.groups, shop.recipe.seed
    share = min(HELD, MOST_HELD / max(len(rows), 1))
    held = hold_out(np.zeros(len(rows), np.int64), groups, share, seed + 1)
    return Course(
        network=network,
        open=opened_for_training,
        examples=examples_of(shop.modality(TEXT), network, rows.prepared[TEXT], seed),
        train=np.flatnonzero(~held),
        held=np.flatnonzero(held),
        lessons=lessons,
        folder=shop.folder / "training" / network.backbone.checksum,
        seed=seed,
        budget=Budget(seconds),
        threads=core_count(),
        progress=rows.progress,
        options=options,
    )


def _vectors(shop: Workshop) -> np.ndarray:
    """Return the whole encoder's vectors (n, width) of the training texts, of unit length."""
    opened, rows = shop.whole.opened[TEXT], shop.rows()
    bound = shop.modality(TEXT).bind(opened.network)
    return joined_vectors([vectors_of(bound, opened, rows.prepared[TEXT], rows.progress)])


def _lesson(shop: Workshop, name: str) -> Lesson:
    rows, cells = shop.ground.labelled(name, judged=False), shop.rows().table[name]
    own = shop.whole.targets[name].task.encode([cells[row] for row in rows])
    y, known = np.zeros((len(cells), *own.shape[1:]), own.dtype), np.zeros(len(cells), bool)
    y[rows], known[rows] = own, True
    return Lesson(shop.whole.targets[name].task, y, known)


def _with(shop: Workshop, base: Variant, network: Network, name: str) -> Variant:
    """Return a form with another text encoder in place of its own."""
    old = base.opened[TEXT]
    network = replace(network, preprocessing=old.network.preprocessing)
    tuned = f"{old.tuned}, {'trained' if base is not shop.whole else 'distilled'}".removeprefix(", ")
    opened = shop.as_before(old, start(network, old.format, precision=old.precision), tuned=tuned)
    return shop.with_networks(name, {**base.opened, TEXT: opened})
