"""How a network should look at pictures: centre or whole, its end or its maps too; decided by training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
from headstart.stages.networks import Opened, mirrored, start, viewed

ROWS = 400
"""Training rows on which views are compared."""
VIEWS = (
    ("whole picture", {"whole": True}),
    ("two depths", {"layers": 2}),
    ("textures", {"textures": True}),
)


def best_view(
    modality: Modality,
    opened: Opened,
    dataset: Dataset,
    train: np.ndarray,
    groups: np.ndarray,
    task: Task,
    progress: Progress,
) -> tuple[Opened, bool]:
    """Return a network of pictures in the view whose vectors tell held-out training rows apart best, and what helps it.

    The second is whether a head learns from the mirror images of its rows, too: it does unless that costs it more than
    a standard error, for on more rows than are looked at here it rarely does.

    Args:
        train: numbers of the training rows that have a label for `task`.
        groups: near-duplicate groups of all rows.
    """
    rows = _sample(dataset, task, train, groups)
    table = take_rows(dataset.table, rows)
    y = task.encode([dataset.column(task.target)[row] for row in rows])

    def vectors(running: Opened) -> dict[str, np.ndarray]:
        bound = modality.bind(running.network)
        return {"embedding": joined_vectors([vectors_of(bound, running, bound.prepare(table), Quiet())])}

    def score(running: Opened, more: Sequence[Arrays] = ()) -> np.ndarray:
        job = Job(task, y, vectors(running), groups[rows], 0, Budget(), core_count(), Quiet(), more=more)
        return task.correct(methods.head_methods()["probe"]().fit(job).held_out, y)

    best, highest = opened, score(opened)
    told = [f"as published {highest.mean():.3f}"]
    for name, view in VIEWS:
        trial = {**best.view, **view}
        network = viewed(opened.network, trial)
        if network == viewed(opened.network, best.view):
            continue
        running = replace(start(network, opened.format, precision=opened.precision), view=trial, why=opened.why)
        found = score(running)
        told.append(f"{name} {found.mean():.3f}")
        best, highest = (running, found) if found.mean() > highest.mean() else (best, highest)
    both = score(best, [vectors(mirrored(best))])
    told.append(f"learnt from mirror images too {both.mean():.3f}")
    loss = highest - both
    progress.say(f"views of {len(rows):,} training pictures: {', '.join(told)}")
    return best, bool(loss.mean() <= loss.std() / np.sqrt(len(loss)))


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
