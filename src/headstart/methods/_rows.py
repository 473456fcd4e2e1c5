"""Entrants for tables of numbers and categories: gradient-boosted trees and a regularised linear model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from headstart.core.arrays import Arrays, take
from headstart.core.head import Head
from headstart.core.method import Candidate, Fitted, Job
from headstart.core.progress import timed
from headstart.core.task import Task
from headstart.heads.blend import Blend
from headstart.heads.linear import Linear
from headstart.heads.trees import NODE, Trees, design
from headstart.methods._learn import Scaled, indicators, job_folds, merit
from headstart.methods._logistic import path

FOLDS = 3
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
COMPONENTS = 32
"""Principal components of an embedding that trees read."""
TREES = {"learning_rate": 0.08, "max_leaf_nodes": 15, "l2_regularization": 1.0}
ROUNDS = {"many": 150, "few": 60}
FEW = 1000
"""Rows below which fewer rounds are boosted."""


def fit_rows(job: Job, dense: Sequence[str] = ()) -> Fitted:
    """Race trees against a linear model, and their sum, by held-out merit.

    Args:
        job: its features hold `row` and `row_scaled`.
        dense: further arrays (n, d) that both read, such as `embedding`.
    """
    fold = job_folds(job, FOLDS)
    seconds: dict[str, float] = {}
    with timed(seconds, "linear"):
        strength = _strength(job, dense, fold)
        linear = _held_out(job, fold, lambda part: fit_scaled(part, ("row_scaled", *dense), strength))
    with timed(seconds, "trees"):
        trees = _held_out(job, fold, lambda part: fit_trees(part, ("row", *dense)))
    scale = float(trees.std() / max(linear.std(), 1e-9)) if job.task.width > 1 else 1.0
    scores = {"trees": trees, "linear": linear, "trees + linear": (trees + scale * linear) / 2}
    merits = {name: merit(job.task, each, job.y) for name, each in scores.items()}
    best = max(merits, key=lambda name: merits[name])
    head: Head
    if best == "trees":
        head = fit_trees(job, ("row", *dense))
    elif best == "linear":
        head = fit_scaled(job, ("row_scaled", *dense), strength)
    else:
        parts = fit_trees(job, ("row", *dense)), fit_scaled(job, ("row_scaled", *dense), strength)
        head = Blend([(0.5, parts[0]), (0.5 * scale, parts[1])])
    names = {"trees": "gradient-boosted trees", "linear": f"linear, C={strength:g}", "trees + linear": "their sum"}
    race = [Candidate(names[name], merits[name], seconds.get(name, 0.0), name == best) for name in scores]
    return Fitted(head, scores[best].astype(np.float32), race)


def _part(job: Job, rows: np.ndarray) -> Job:
    features = take({k: v for k, v in job.features.items() if k not in ("text", "image", "audio")}, rows)
    return replace(job, y=job.y[rows], features=features, groups=job.groups[rows], memo={})


def _held_out(job: Job, fold: np.ndarray, fit: Any) -> np.ndarray:
    scores = np.empty((len(job.y), job.task.width), np.float32)
    for each in range(FOLDS):
        head = fit(_part(job, np.flatnonzero(fold != each)))
        scores[fold == each] = head.scores(take(job.features, np.flatnonzero(fold == each)))
    return scores


def _strength(job: Job, dense: Sequence[str], fold: np.ndarray) -> float:
    inside, outside = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    x = joined(job.features, ("row_scaled", *dense))
    scaled, targets = Scaled.of(x[inside]), indicators(job.task, job.y)
    if job.task.width == 1:
        return 1.0
    found = []
    for strength, (weights, bias) in zip(
        STRENGTHS, path(scaled.apply(x[inside]), targets[inside], STRENGTHS), strict=True
    ):
        found.append((merit(job.task, scaled.apply(x[outside]) @ weights + bias, job.y[outside]), strength))
    return max(found)[1]


def joined(features: Arrays, names: Sequence[str]) -> np.ndarray:
    """Return arrays side by side, (n, sum of widths) float32."""
    return np.concatenate([features[name] for name in names], axis=1).astype(np.float32)


def fit_scaled(job: Job, reads: Sequence[str], strength: float) -> Linear:
    """Fit a linear head on standardised arrays: logistic, or ridge for numbers."""
    x = joined(job.features, reads)
    scaled, y = Scaled.of(x), indicators(job.task, job.y)
    z = scaled.apply(x)
    if job.task.width == 1:
        gram = z.T @ z + max(1.0, 0.001 * len(z)) * np.eye(z.shape[1], dtype=np.float32)
        weights, bias = np.linalg.solve(gram, z.T @ (y - y.mean(axis=0))), y.mean(axis=0)
    else:
        *_, (weights, bias) = path(z, y, [each for each in STRENGTHS if each <= strength] or [strength])
    return Linear(reads, *scaled.fold(weights, bias))


def fit_trees(job: Job, reads: Sequence[str]) -> Trees:
    """Fit gradient-boosted trees and return them as plain arrays."""
    center, components = _projection(job.features, reads[1:])
    x = design(job.features, reads, center, components)
    kinds = categorical(job.features)
    mask = np.zeros(x.shape[1], bool)
    mask[: len(kinds)] = kinds
    if job.task.width == 1 or job.y.ndim == 1:
        models = [_boost(job.task, x, job.y, mask, job.seed)]
    else:
        models = [_boost(job.task, x, mark, mask, job.seed) for mark in job.y.T]
    return export(models, job.task, reads, center, components)


def categorical(features: Arrays) -> np.ndarray:
    """Return which columns of `row` are category numbers, as the modality marked them in its first row's twin."""
    return features["row_kind"][0].astype(bool)


def _projection(features: Arrays, dense: Sequence[str]) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not dense:
        return None, None
    x = joined(features, dense)
    center = x.mean(axis=0)
    _, _, axes = np.linalg.svd(x[:: max(1, len(x) // 4000)] - center, full_matrices=False)
    return center.astype(np.float32), np.ascontiguousarray(axes[:COMPONENTS].T.astype(np.float32))


def _boost(task: Task, x: np.ndarray, y: np.ndarray, mask: np.ndarray, seed: int) -> Any:
    rounds = ROUNDS["few" if len(x) < FEW else "many"]
    kind = HistGradientBoostingRegressor if task.width == 1 else HistGradientBoostingClassifier
    if task.width > 1 and len(np.unique(y)) < 2:
        return None
    model = kind(max_iter=rounds, early_stopping=False, categorical_features=mask, random_state=seed, **TREES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A column that is missing throughout a fold is not worth a warning.
        return model.fit(x, y)


def export(
    models: Sequence[Any], task: Task, reads: Sequence[str], center: np.ndarray | None, components: np.ndarray | None
) -> Trees:
    """Return fitted scikit-learn boosting models as a head of plain arrays.

    One model gives all scores of classes or a number; several give one score (a mark) each.
    """
    tables: dict[str, list[np.ndarray]] = {name: [] for name in NODE}
    masks: list[np.ndarray] = [np.zeros((1, 8), np.uint32)]
    count, masked = 0, 1
    columns: list[tuple[np.ndarray, np.ndarray]] = []
    for model in models:
        if model is None:
            columns.append((np.zeros((0, 1), np.int64), np.array([-8.0])))
            continue
        roots = np.zeros((len(model._predictors), len(model._predictors[0])), np.int64)
        for place, tree in np.ndenumerate(np.array(model._predictors, dtype=object)):
            order, categories = _order(model)
            roots[place] = count
            _add(tables, tree.nodes, order, count, masked)
            bitsets = _raw_bitsets(tree, categories)
            masks.append(bitsets)
            count, masked = count + len(tree.nodes), masked + len(bitsets)
        columns.append((roots, np.asarray(model._baseline_prediction, np.float64).reshape(-1)))
    nodes = {name: np.concatenate(parts) for name, parts in tables.items()}
    return _assembled(columns, nodes, np.concatenate(masks), task, reads, center, components)


def _order(model: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the original column of each of the model's columns, and the categories of its categorical ones.

    scikit-learn puts categorical columns first and numbers their categories anew.
    """
    mask = model.is_categorical_
    if mask is None or not mask.any():
        return np.arange(model.n_features_in_), []
    encoder = model._preprocessor.named_transformers_["encoder"]
    return np.concatenate([np.flatnonzero(mask), np.flatnonzero(~mask)]), list(encoder.categories_)


def _raw_bitsets(tree: Any, categories: Sequence[np.ndarray]) -> np.ndarray:
    """Return a tree's masks (k, 8) uint32 over the original category numbers."""
    encoded = np.asarray(tree.raw_left_cat_bitsets, dtype=np.uint32).reshape(-1, 8)
    raw = np.zeros_like(encoded)
    for node in tree.nodes[tree.nodes["is_categorical"] == 1]:
        mask = node["bitset_idx"]
        for code, category in enumerate(categories[node["feature_idx"]]):
            if not np.isnan(category) and encoded[mask, code >> 5] >> np.uint32(code & 31) & 1:
                raw[mask, int(category) >> 5] |= np.uint32(1 << (int(category) & 31))
    return raw


def _add(tables: dict[str, list[np.ndarray]], nodes: np.ndarray, order: np.ndarray, first: int, masked: int) -> None:
    tables["value"].append(nodes["value"].astype(np.float32))
    tables["feature"].append(order[nodes["feature_idx"]].astype(np.int32))
    tables["threshold"].append(nodes["num_threshold"].astype(np.float32))
    tables["missing_left"].append(nodes["missing_go_to_left"].astype(bool))
    tables["left"].append((nodes["left"] + first).astype(np.int32))
    tables["right"].append((nodes["right"] + first).astype(np.int32))
    tables["leaf"].append(nodes["is_leaf"].astype(bool))
    tables["categorical"].append(nodes["is_categorical"].astype(bool))
    tables["bitset"].append(np.where(nodes["is_categorical"], nodes["bitset_idx"] + masked, 0).astype(np.int32))


def _assembled(
    columns: Sequence[tuple[np.ndarray, np.ndarray]],
    nodes: dict[str, np.ndarray],
    masks: np.ndarray,
    task: Task,
    reads: Sequence[str],
    center: np.ndarray | None,
    components: np.ndarray | None,
) -> Trees:
    if len(columns) == 1:
        roots, baseline = columns[0]
    else:
        rounds = max(len(roots) for roots, _ in columns)
        # A mark without trees points at an empty leaf, which adds nothing.
        empty = len(nodes["value"])
        nodes = {name: np.append(each, each.dtype.type(name == "leaf")) for name, each in nodes.items()}
        roots = np.concatenate([each if len(each) else np.full((rounds, 1), empty) for each, _ in columns], axis=1)
        baseline = np.concatenate([each for _, each in columns])
    binary = task.width == 2 and roots.shape[1] == 1
    return Trees(reads, roots, nodes, masks, baseline.astype(np.float32), center, components, binary)
