"""From scratch: what can be learnt without a pretrained model, which every pretrained model must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from headstart.core.method import Candidate, Fitted, HeadMethod, Job
from headstart.core.modality import HANDCRAFTED
from headstart.core.task import Task
from headstart.heads.blend import Blend
from headstart.methods._learn import merit
from headstart.methods._probe_race import View, choose
from headstart.methods._rows import fit_rows
from headstart.methods._text import begin_text, fit_text

WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Weights of the text model beside the rows' model."""


@final
class Scratch(HeadMethod):
    """TF-IDF with a linear model for text, gradient boosting for rows, and hand-crafted features of pictures (oriented
    gradients, colours) and recordings (MFCC) with kernel ridge or logistic regression; their weighted sums.
    """

    pretrained = False

    def supports(self, task: Task, features: Sequence[str]) -> str:
        """Return an empty string where there is something to learn from."""
        usable = {"text", "row"} & set(features) or any(name.endswith(HANDCRAFTED) for name in features)
        return "" if usable else "it needs text, pictures, recordings, or numbers and categories"

    def begin(self, job: Job) -> None:
        """Start the text model, which keeps one core busy."""
        if "text" in job.features and job.threads > 1:
            begin_text(job)

    def fit(self, job: Job) -> Fitted:
        """Fit what the features allow."""
        parts: list[tuple[str, Fitted]] = []
        if "row" in job.features:
            parts.append(("rows", fit_rows(job)))
        if "text" in job.features:
            parts.append(("text", fit_text(job)))
        parts += [(name.removesuffix(HANDCRAFTED), fit_handcrafted(job, name)) for name in handcrafted(job)]
        (called, fitted), *others = parts
        for name, other in others:
            fitted = blended(job, fitted, other, called, name)
            called = f"{called} + {name}"
        return fitted


def handcrafted(job: Job) -> list[str]:
    """Return the names of the hand-crafted features among the job's."""
    return sorted(name for name in job.features if name.endswith(HANDCRAFTED))


def fit_handcrafted(job: Job, name: str) -> Fitted:
    """Return the model of hand-crafted features, fitted once for all methods that share the job's memo."""
    if name not in job.memo:
        job.memo[name] = choose(job, View((name,), scaled=True))
    fitted: Fitted = job.memo[name]
    return fitted


def blended(job: Job, first: Fitted, second: Fitted, first_name: str, second_name: str) -> Fitted:
    """Return the best of two fits and their weighted sums, by held-out merit."""
    if job.task.width == 1:
        shares = [(each / 4, 1 - each / 4) for each in range(5)]
    else:
        scale = float(first.held_out.std() / max(second.held_out.std(), 1e-9))
        shares = [(1.0, 0.0), (0.0, 1.0), *((1.0, scale * weight) for weight in WEIGHTS)]
    merits = [merit(job.task, one * first.held_out + two * second.held_out, job.y) for one, two in shares]
    one, two = shares[max(range(len(shares)), key=lambda each: merits[each])]
    race = [*first.race, *second.race]
    if not two:
        return Fitted(first.head, first.held_out, race)
    if not one:
        return Fitted(second.head, second.held_out, race)
    note = f"{second_name} weighs {two / one:.2f} of {first_name}"
    race.append(Candidate(f"{first_name} + {second_name}", max(merits), 0.0, chosen=True, note=note))
    head = Blend([(one, first.head), (two, second.head)])
    return Fitted(head, one * first.held_out + two * second.held_out, race)
