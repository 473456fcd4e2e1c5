"""Probe: a small head on the frozen embeddings of a pretrained model (feature extraction)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np

from headstart.core.method import Fitted, HeadMethod, Job
from headstart.core.task import Task
from headstart.methods._probe_race import choose
from headstart.methods._rows import fit_rows
from headstart.methods.scratch import blended, fit_handcrafted, handcrafted


@final
class Probe(HeadMethod):
    """A race of heads on frozen embeddings, decided on held-out training rows.

    For text: kernel ridge regression on the embedding's Gaussian kernel plus an n-gram kernel, held out in closed form,
    against logistic regression over a path of C blended with the from-scratch text model. With numbers and categories
    beside the text: gradient-boosted trees and linear models of both, blended with the text's winner. For pictures and
    recordings: hand-crafted features are blended in where that gains more than a standard error.
    """

    pretrained = True

    def supports(self, task: Task, features: Sequence[str]) -> str:
        """Return an empty string where there is an embedding."""
        return "" if "embedding" in features else "it needs the embeddings of a pretrained model"

    def fit(self, job: Job) -> Fitted:
        """Run the race."""
        dense = _of_all_looks(job)
        for name in handcrafted(job):
            dense = self._with_handcrafted(job, dense, name)
        if "row" not in job.features:
            return dense
        rows = fit_rows(job, ("embedding",))
        return blended(job, rows, dense, "rows and embedding", "embedding")

    def _with_handcrafted(self, job: Job, dense: Fitted, name: str) -> Fitted:
        """Return the fit blended with that of hand-crafted features, where it gains more than a standard error.

        Answers then cost working these features out too, so an equal blend is not worth having.
        """
        both = blended(job, dense, fit_handcrafted(job, name), "embedding", "hand-crafted features")
        gain = job.task.correct(both.held_out, job.y) - job.task.correct(dense.held_out, job.y)
        return both if gain.mean() > gain.std() / np.sqrt(len(gain)) else dense


def _of_all_looks(job: Job) -> Fitted:
    """Return the race on the rows, and its winner's fit on `more` of them too.

    A row's other looks are in its group, and so held out with it.
    """
    if not job.more:
        return choose(job)
    looks = 1 + len(job.more)
    features = {
        name: np.concatenate([values, *(each.get(name, values) for each in job.more)])
        for name, values in job.features.items()
        if name in ("embedding", "text")
    }
    y, groups = np.concatenate([job.y] * looks), np.concatenate([job.groups] * looks)
    return choose(job, all_looks=replace(job, y=y, features=features, groups=groups, memo={}, more=()))
