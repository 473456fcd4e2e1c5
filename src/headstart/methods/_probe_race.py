"""The race of heads on dense features: frozen embeddings, or hand-crafted ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from headstart.core.arrays import take
from headstart.core.method import Candidate, Fitted, Job
from headstart.heads.blend import Blend
from headstart.heads.kernel import Kernel, Sphere, gaussian
from headstart.heads.linear import Linear
from headstart.methods._closed_form import solve, solve_landmarks
from headstart.methods._learn import Scaled, indicators, job_folds, merit, subsample
from headstart.methods._logistic import path
from headstart.methods._text import Weighed, fit_text, weigh

TRIAL = 1_500
"""Rows on which settings are tried."""
EXACT = 16_000
"""Rows up to which the kernel is solved exactly: 1 GB at most for the kernel, and as much again while it is solved."""
LANDMARKS = 4_096
GAMMAS = (1.0, 2.0, 4.0)
SHARES = (1.0, 0.85, 0.7)
"""The embedding's share of the kernel; the n-grams have the rest."""
RIDGES = (0.03, 0.1, 0.3, 1.0)
FURTHER = 2
"""Steps beyond the corner of the grid, where the best setting is in that corner."""
STRENGTHS = (0.01, 0.03, 0.1)
"""C of logistic regression on standardised features."""
FOLDS = 3
BLEND = (0.0, 0.25, 0.5, 1.0)
"""Weights of the from-scratch text model beside logistic regression."""
BLOCK = 8_192


@dataclass(frozen=True)
class Setting:
    """One entrant: its name, held-out scores of the trial rows (all entrants by the same folds), seconds, its fit."""

    name: str
    held_out: np.ndarray
    seconds: float
    fit: Callable[[Job], Fitted]


@dataclass(frozen=True)
class View:
    """What of the features an entrant looks at.

    Args:
        reads: names of the dense arrays.
        scaled: whether they are standardised and brought to unit length for the kernel; embeddings have it already.
    """

    reads: Sequence[str] = ("embedding",)
    scaled: bool = False

    def raw(self, job: Job) -> np.ndarray:
        """Return the dense features (n, d) as they are."""
        parts = [job.features[name] for name in self.reads]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def sphere(self, job: Job) -> Sphere:
        """Return the map to the unit sphere, learnt from the job's rows."""
        return Sphere.of(self.reads, job.features, self.scaled)

    def text(self, job: Job) -> bool:
        """Return whether n-grams of a text stand beside the dense features."""
        return "text" in job.features and not self.scaled


def choose(job: Job, view: View = View(), all_looks: Job | None = None) -> Fitted:
    """Try all settings on a sample of rows, and fit the best on all rows, on `all_looks` of them where given."""
    rows = subsample(job, TRIAL)
    trial = job
    if len(rows) < len(job.y):
        trial = replace(job, y=job.y[rows], features=take(job.features, rows), groups=job.groups[rows], memo={})
    entrants = [_try_kernel(trial, view)]
    if job.task.width > 1 and job.budget.left() > 0:
        entrants.append(_try_logistic(trial, view))
    best = _winner(trial, entrants)
    started = time.perf_counter()
    fitted = best.fit(all_looks or job)
    # The first look of each row is the row itself; the others are not judged on.
    fitted = replace(fitted, held_out=fitted.held_out[: len(job.y)])
    note = f"{FOLDS} folds of {len(rows):,} rows"
    race = [
        Candidate(each.name, _standing(trial, each), each.seconds, chosen=each is best, note=note) for each in entrants
    ]
    final = Candidate(f"{best.name}, all rows", fitted.score(job.task, job.y), time.perf_counter() - started)
    return replace(fitted, race=[*race, final])


def _winner(job: Job, entrants: Sequence[Setting]) -> Setting:
    """Return the first entrant, whose held-out scores cost least, unless another beats it by a standard error."""
    best = entrants[0]
    for each in entrants[1:]:
        gain = job.task.correct(each.held_out, job.y) - job.task.correct(best.held_out, job.y)
        if gain.mean() > gain.std() / np.sqrt(len(gain)):
            best = each
    return best


def _standing(job: Job, entrant: Setting) -> float:
    return float(job.task.correct(entrant.held_out, job.y).mean())


def _centred(job: Job) -> tuple[np.ndarray, np.ndarray]:
    y = indicators(job.task, job.y)
    # Scores of marks and classes are kept around 0 for "no", so only numbers are centred by their mean.
    mean = y.mean(axis=0) if job.task.width == 1 else np.zeros(y.shape[1], np.float32)
    if y.ndim == 2 and job.y.ndim == 2:
        mean = np.full(y.shape[1], 0.5, np.float32)
    return y - mean, mean


def _try_kernel(job: Job, view: View) -> Setting:
    started = time.perf_counter()
    y, mean = _centred(job)
    points = view.sphere(job).points(job.features)
    similarity = points @ points.T
    overlap: np.ndarray | None = None
    if view.text(job):
        texts = weigh(job).matrix
        overlap = np.asarray((texts @ texts.T).toarray(), dtype=np.float32)
    shares = SHARES if overlap is not None else (1.0,)

    def tried(gamma: float, share: float, ridges: Sequence[float]) -> list[tuple[float, float, float, float]]:
        mixed = _mixed(np.exp(gamma * (similarity - 1.0)), overlap, share)
        solved = ((ridge, solve(mixed.copy(), y, ridge, job.groups).held_out + mean) for ridge in ridges)
        return [(merit(job.task, held_out, job.y), gamma, share, ridge) for ridge, held_out in solved]

    found = []
    for gamma, share in product(GAMMAS, shares):
        found += tried(gamma, share, RIDGES)
        if job.budget.left() < 0:
            break
    best = max(found)
    for _ in range(FURTHER):
        if job.budget.left() < 0:
            break
        _, gamma, share, ridge = best
        gammas = [gamma, 2 * gamma] if gamma >= GAMMAS[-1] else [gamma]
        ridges = [ridge, ridge / 3] if ridge <= RIDGES[0] else [ridge]
        beyond = [each for one in gammas for each in tried(one, share, ridges) if each[1:] != best[1:]]
        if not beyond or max(beyond) <= best:
            break
        best = max(beyond)
    _, gamma, share, ridge = best
    mixed = _mixed(np.exp(gamma * (similarity - 1.0)), overlap, share)
    name = f"kernel ridge, gamma={gamma:g}, ridge={ridge:g}" + (
        f", embedding {share:.0%}" if overlap is not None else ""
    )
    held_out = solve(mixed.copy(), y, ridge, job_folds(job, FOLDS)).held_out + mean
    fit = partial(_fit_kernel, view=view, gamma=gamma, share=share, ridge=ridge)
    return Setting(name, held_out, time.perf_counter() - started, fit)


def _mixed(kernel: np.ndarray, overlap: np.ndarray | None, share: float) -> np.ndarray:
    return kernel if overlap is None else share * kernel + (1 - share) * overlap


def _fit_kernel(job: Job, view: View, gamma: float, share: float, ridge: float) -> Fitted:
    if len(job.y) > EXACT:
        return _fit_landmarks(job, view, gamma, ridge)
    y, mean = _centred(job)
    sphere = view.sphere(job)
    points = sphere.points(job.features).astype(np.float16)
    # The rounded points are what the head will hold, so the fit sees them too.
    rounded = points.astype(np.float32)
    kernel = gaussian(rounded, rounded, gamma)
    weighed: Weighed | None = weigh(job) if share < 1 else None
    if weighed is not None:
        kernel *= share
        _add_overlap(kernel, weighed, 1 - share)
    solved = solve(kernel, y, ridge, job.groups)
    del kernel
    weights = (1 - share) * (weighed.matrix.T @ solved.dual) if weighed is not None else None
    vocabulary = weighed.vocabulary if weighed is not None else None
    head = Kernel(gamma, points, share * solved.dual, mean, vocabulary, weights, sphere)
    return Fitted(head, solved.held_out + mean)


def _add_overlap(kernel: np.ndarray, weighed: Weighed, share: float) -> None:
    """Add the n-gram kernel in blocks of rows, so that no second dense matrix is needed."""
    across = weighed.matrix.T.tocsr()
    for start in range(0, len(kernel), 1024):
        rows = slice(start, start + 1024)
        kernel[rows] += share * (weighed.matrix[rows] @ across).toarray()


def _fit_landmarks(job: Job, view: View, gamma: float, ridge: float) -> Fitted:
    y, mean = _centred(job)
    sphere = view.sphere(job)
    everything = sphere.points(job.features)
    chosen = np.random.default_rng(job.seed).permutation(len(everything))[:LANDMARKS]
    points = everything[np.sort(chosen)].astype(np.float16)
    rounded = points.astype(np.float32)
    blocks = _Blocks(everything, rounded, gamma)
    solved = solve_landmarks(blocks, gaussian(rounded, rounded, gamma), y, ridge, job_folds(job, FOLDS))
    kernel = Fitted(Kernel(gamma, points, solved.dual, mean, sphere=sphere), solved.held_out + mean)
    return _with_text(job, view, kernel)


class _Blocks:
    """The kernel between all rows and the landmarks, computed block by block each time it is walked through."""

    def __init__(self, embedding: np.ndarray, points: np.ndarray, gamma: float) -> None:
        self.embedding, self.points, self.gamma = embedding, points, gamma

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.embedding), BLOCK):
            yield gaussian(self.embedding[start : start + BLOCK], self.points, self.gamma)


def _try_logistic(job: Job, view: View) -> Setting:
    started = time.perf_counter()
    fold, y, dense = job_folds(job, FOLDS), indicators(job.task, job.y), view.raw(job)
    held_out = {strength: np.empty(y.shape, np.float32) for strength in STRENGTHS}
    for each in range(FOLDS):
        inside, outside = fold != each, fold == each
        scaled = Scaled.of(dense[inside])
        x, unseen = scaled.apply(dense[inside]), scaled.apply(dense[outside])
        for strength, (weights, bias) in zip(STRENGTHS, path(x, y[inside], STRENGTHS), strict=True):
            held_out[strength][outside] = unseen @ weights + bias
    merits = {strength: merit(job.task, held_out[strength], job.y) for strength in STRENGTHS}
    best = max(merits, key=lambda strength: merits[strength])
    name = f"logistic regression, C={best:g}"
    both: np.ndarray = held_out[best]
    if view.text(job):
        text = fit_text(job)
        _, weight = _best_blend(job, held_out[best], text.held_out)
        both = held_out[best] + np.float32(weight * _relative(held_out[best], text.held_out)) * text.held_out
        name += f", TF-IDF weighs {weight:g}" if weight else ""
    fit = partial(_fit_logistic, view=view, strength=best)
    return Setting(name, both, time.perf_counter() - started, fit)


def _best_blend(job: Job, first: np.ndarray, text: np.ndarray) -> tuple[float, float]:
    scale = np.float32(_relative(first, text))
    return max((merit(job.task, first + np.float32(weight) * scale * text, job.y), weight) for weight in BLEND)


def _relative(first: np.ndarray, second: np.ndarray) -> float:
    """Return how much wider the first scores spread than the second."""
    return float(first.std() / max(second.std(), 1e-9))


def _with_text(job: Job, view: View, fitted: Fitted) -> Fitted:
    """Return a fit blended with the from-scratch text model, at the weight of greatest held-out merit."""
    if not view.text(job):
        return fitted
    text = fit_text(job)
    if job.task.width == 1:
        return fitted
    _, weight = _best_blend(job, fitted.held_out, text.held_out)
    if not weight:
        return fitted
    weight *= _relative(fitted.held_out, text.held_out)
    head = Blend([(1.0, fitted.head), (weight, text.head)])
    return Fitted(head, fitted.held_out + np.float32(weight) * text.held_out)


def _fit_logistic(job: Job, view: View, strength: float) -> Fitted:
    fold, y, dense = job_folds(job, FOLDS), indicators(job.task, job.y), view.raw(job)
    strengths = [each for each in STRENGTHS if each <= strength]
    held_out = np.empty(y.shape, np.float32)
    for each in range(FOLDS):
        scaled = Scaled.of(dense[fold != each])
        *_, (weights, bias) = path(scaled.apply(dense[fold != each]), y[fold != each], strengths)
        held_out[fold == each] = scaled.apply(dense[fold == each]) @ weights + bias
    scaled = Scaled.of(dense)
    *_, (weights, bias) = path(scaled.apply(dense), y, strengths)
    return _with_text(job, view, Fitted(Linear(view.reads, *scaled.fold(weights, bias)), held_out))
