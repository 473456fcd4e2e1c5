"""How a network should look at pictures: centre or whole, one depth or two, mirrored or not; by training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from headstart import methods
from headstart.core.arrays import Arrays, joined_vectors
from headstart.core.dataset import Dataset, as_text, take_rows
from headstart.core.method import Budget, Job
from headstart.core.modality import Modality
from headstart.core.progress import Progress, Quiet
from headstart.core.split import folds, strata_of
from headstart.core.task import Task
from headstart.core.threads import core_count
from headstart.stages.embeddings import Cache, embed
from headstart.stages.networks import Opened, start, viewed

ROWS = 400
"""Training rows on which views are compared."""
VIEWS = (("whole picture", {"whole": True}), ("two depths", {"layers": 2}), ("mirrored too", {"mirror": True}))
DEARER = "mirrored too"
"""The view that doubles the network's work, and must therefore gain more than a standard error."""


def best_view(
    modality: Modality,
    opened: Opened,
    dataset: Dataset,
    train: np.ndarray,
    groups: np.ndarray,
    task: Task,
    progress: Progress,
) -> Opened:
    """Return a network of pictures opened in the view whose vectors tell held-out training rows apart best.

    Args:
        train: numbers of the training rows that have a label for `task`.
        groups: near-duplicate groups of all rows.
    """
    rows = _sample(dataset, task, train, groups)
    table = take_rows(dataset.table, rows)
    y = task.encode([dataset.column(task.target)[row] for row in rows])

    def score(view: Mapping[str, Any]) -> tuple[np.ndarray, Opened]:
        network = viewed(opened.network, view)
        running = opened
        if network != opened.network:
            started = start(network, opened.format, precision=opened.precision)
            running = replace(started, view=view, why=opened.why)
        bound = modality.bind(network)
        vectors = joined_vectors([vectors_of(bound, running, bound.prepare(table), Quiet())])
        job = Job(task, y, {"embedding": vectors}, groups[rows], 0, Budget(), core_count(), Quiet())
        return task.correct(methods.head_methods()["probe"]().fit(job).held_out, y), running

    best = score({})
    told = [f"as published {best[0].mean():.3f}"]
    for name, view in VIEWS:
        trial = {**best[1].view, **view}
        if viewed(opened.network, trial) == viewed(opened.network, best[1].view):
            continue
        found = score(trial)
        told.append(f"{name} {found[0].mean():.3f}")
        gain = found[0] - best[0]
        needed = gain.std() / np.sqrt(len(gain)) if name == DEARER else 0.0
        best = found if gain.mean() > needed else best
    progress.say(f"views of {len(rows):,} training pictures: {', '.join(told)}")
    return best[1]


def _sample(dataset: Dataset, task: Task, train: np.ndarray, groups: np.ndarray) -> np.ndarray:
    if len(train) <= ROWS:
        return train
    cells = dataset.column(task.target)
    strata = strata_of([as_text(cells[row]) for row in train])
    return train[folds(strata, groups[train], -(-len(train) // ROWS), 0) == 0]


def vectors_of(modality: Modality, opened: Opened, arrays: Arrays, progress: Progress) -> np.ndarray:
    """Return vectors (n, width) of what `modality.prepare` gave, taking those that are known from the cache."""
    network = opened.network
    cache = Cache.of(network.backbone.checksum, opened.format, opened.precision, network.preprocessing, network.pooling)
    return embed(modality, opened.session, arrays, cache, progress)
