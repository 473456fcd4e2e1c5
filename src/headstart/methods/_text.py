"""The from-scratch text model: TF-IDF of words and characters with a linear support vector machine or ridge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from headstart.core.method import Candidate, Fitted, Job
from headstart.core.progress import timed
from headstart.core.task import Task
from headstart.heads._ngrams import Sparse, Vocabulary
from headstart.heads.ngrams import Ngrams
from headstart.methods._learn import indicators, job_folds, merit

STRENGTHS = (0.3, 1.0, 3.0)
"""The machine's C."""
FOLDS = 3
TRIAL = 4_000
"""Rows from which only one fold is used to choose C."""


@dataclass(frozen=True)
class Weighed:
    """Texts as TF-IDF rows: the vocabulary and a scipy matrix (n, n-grams)."""

    vocabulary: Vocabulary
    matrix: csr_array


def weigh(job: Job) -> Weighed:
    """Return the job's texts as TF-IDF rows, worked out once for all methods that share its memo."""
    if "weighed" not in job.memo:
        vocabulary, sparse = Vocabulary.fit(job.features["text"])
        job.memo["weighed"] = Weighed(vocabulary, matrix(sparse, len(vocabulary.grams)))
    weighed: Weighed = job.memo["weighed"]
    return weighed


def matrix(sparse: Sparse, features: int) -> csr_array:
    """Return sparse rows as a scipy matrix."""
    shape = (len(sparse.starts) - 1, features)
    # liblinear takes 32-bit indices only.
    return csr_array((sparse.values, sparse.columns.astype(np.int32), sparse.starts.astype(np.int32)), shape=shape)


def fit_text(job: Job) -> Fitted:
    """Return the job's text model, fitted once for all methods that share its memo."""
    if "text" not in job.memo:
        job.memo["text"] = _fit_text(job)
    fitted: Fitted = job.memo["text"]
    return fitted


def _fit_text(job: Job) -> Fitted:
    """Choose C by held-out merit, fit on all rows, and score each row by folds."""
    seconds: dict[str, float] = {}
    with timed(seconds, "tf-idf"):
        weighed = weigh(job)
        fold = job_folds(job, FOLDS)
    trial = fold if len(job.y) <= TRIAL else np.where(fold == 0, 0, 1)
    race = []
    for strength in STRENGTHS:
        with timed(seconds, f"{strength}"):
            parts = range(FOLDS) if len(job.y) <= TRIAL else range(1)
            rows = np.concatenate([np.flatnonzero(trial == each) for each in parts])
            held = np.concatenate([_fold_scores(job, weighed.matrix, trial, each, strength) for each in parts])
        race.append((merit(job.task, held, job.y[rows]), strength))
    _, chosen = max(race)
    held_out = np.empty((len(job.y), job.task.width), np.float32)
    for each in range(FOLDS):
        held_out[fold == each] = _fold_scores(job, weighed.matrix, fold, each, chosen)
    weights, bias = fit_linear(job.task, weighed.matrix, job.y, chosen)
    table = [Candidate(f"TF-IDF, C={c:g}", score, seconds[f"{c}"], chosen=c == chosen) for score, c in race]
    return Fitted(Ngrams(weighed.vocabulary, weights, bias), held_out, table)


def _fold_scores(job: Job, x: csr_array, fold: np.ndarray, each: int, strength: float) -> np.ndarray:
    inside, outside = np.flatnonzero(fold != each), np.flatnonzero(fold == each)
    weights, bias = fit_linear(job.task, x[inside], job.y[inside], strength)
    return (x[outside] @ weights + bias).astype(np.float32)


def fit_linear(task: Task, x: csr_array, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (features, width) and bias (width,) of a linear model of sparse rows."""
    if task.width == 1:
        model = Ridge(alpha=1.0 / strength, solver="sparse_cg", tol=1e-3).fit(x, y)
        return model.coef_.reshape(-1, 1), np.array([model.intercept_])
    marks = indicators(task, y) if y.ndim == 2 else None
    if marks is not None:
        return _each_mark(x, marks, strength)
    # liblinear's default tolerance takes twice the time for the same answers.
    model = LinearSVC(C=strength, tol=1e-2, random_state=0).fit(x, y)
    weights, bias = np.zeros((x.shape[1], task.width)), np.full(task.width, -2.0)
    if len(model.classes_) == 2:
        weights[:, model.classes_] = model.coef_.T @ np.array([[-0.5, 0.5]])
        bias[model.classes_] = model.intercept_[0] * np.array([-0.5, 0.5])
    else:
        weights[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return weights, bias


def _each_mark(x: csr_array, marks: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    weights, bias = np.zeros((x.shape[1], marks.shape[1])), np.full(marks.shape[1], -2.0)
    for each in range(marks.shape[1]):
        if 0 < marks[:, each].sum() < len(marks):
            model = LinearSVC(C=strength, tol=1e-2, random_state=0).fit(x, marks[:, each].astype(int))
            weights[:, each], bias[each] = model.coef_[0], model.intercept_[0]
    return weights, bias
