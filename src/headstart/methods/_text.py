"""The from-scratch text model: TF-IDF of words and characters with a linear support vector machine or ridge."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from headstart.core.method import Candidate, Fitted, Job
from headstart.core.progress import timed
from headstart.core.task import Task
from headstart.core.threads import Beside
from headstart.heads._ngrams import Sparse, Vocabulary
from headstart.heads.ngrams import Ngrams
from headstart.methods._learn import indicators, job_folds, merit

STRENGTHS = (0.3, 1.0, 3.0)
"""The machine's C."""
FOLDS = 3
TRIAL = 4_000
"""Rows from which only one fold is used to choose C."""
ONE = threading.Lock()


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


def begin_text(job: Job) -> None:
    """Start fitting the job's text model in another thread, for `fit_text` to wait for."""
    if "text" not in job.memo:
        weigh(job)
        job.memo["text"] = Beside(lambda: _fit_text(job))


def fit_text(job: Job) -> Fitted:
    """Return the job's text model, fitted once for all methods that share its memo."""
    if "text" not in job.memo:
        job.memo["text"] = _fit_text(job)
    elif isinstance(job.memo["text"], Beside):
        job.memo["text"] = job.memo["text"].result()
    fitted: Fitted = job.memo["text"]
    return fitted


def _fit_text(job: Job) -> Fitted:
    """Choose C by held-out merit, fit on all rows, and score each row by folds."""
    seconds: dict[str, float] = {}
    with timed(seconds, "tf-idf"):
        weighed = weigh(job)
        fold = job_folds(job, FOLDS)
    race, known = [], {}
    for strength in STRENGTHS:
        with timed(seconds, f"{strength}"):
            parts = range(FOLDS) if len(job.y) <= TRIAL else range(1)
            rows = np.concatenate([np.flatnonzero(fold == each) for each in parts])
            known[strength] = [_fold_scores(job, weighed.matrix, fold, each, strength) for each in parts]
        race.append((merit(job.task, np.concatenate(known[strength]), job.y[rows]), strength))
    _, chosen = max(race)
    held_out = np.empty((len(job.y), job.task.width), np.float32)
    for each in range(FOLDS):
        some = known[chosen][each : each + 1] or [_fold_scores(job, weighed.matrix, fold, each, chosen)]
        held_out[fold == each] = some[0]
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
    model = _machine(x, y, strength)
    weights, bias = np.zeros((x.shape[1], task.width)), np.full(task.width, -2.0)
    if len(model.classes_) == 2:
        weights[:, model.classes_] = model.coef_.T @ np.array([[-0.5, 0.5]])
        bias[model.classes_] = model.intercept_[0] * np.array([-0.5, 0.5])
    else:
        weights[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return weights, bias


def _machine(x: csr_array, y: np.ndarray, strength: float) -> LinearSVC:
    # liblinear draws from one generator for the whole process, so two fits at a time would not be repeatable.
    with ONE:
        # Its default tolerance takes twice the time for the same answers.
        return LinearSVC(C=strength, tol=1e-2, random_state=0).fit(x, y)


def _each_mark(x: csr_array, marks: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    weights, bias = np.zeros((x.shape[1], marks.shape[1])), np.full(marks.shape[1], -2.0)
    for each in range(marks.shape[1]):
        if 0 < marks[:, each].sum() < len(marks):
            model = _machine(x, marks[:, each].astype(int), strength)
            weights[:, each], bias[each] = model.coef_[0], model.intercept_[0]
    return weights, bias
