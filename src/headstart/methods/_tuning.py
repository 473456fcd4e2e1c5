"""What methods that change weights share: the linear start, the score on held rows, and what comes after training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.course import Course, Estimate, Lesson, Tuned
from headstart.core.errors import ResourceError, UsageError
from headstart.core.method import Candidate
from headstart.core.registry import require
from headstart.core.threads import process_rank
from headstart.heads.linear import Linear
from headstart.methods._learn import indicators, merit
from headstart.methods._logistic import path

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""C of the logistic regression that a network's linear layer starts from."""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the way from the pretrained to the tuned weights that are tried."""
TRIED = 3
"""Batches on which the time of a step is measured."""
SPARE = 0.8
"""Share of the time that is left which a course may plan with."""


@dataclass(frozen=True)
class Start:
    """Where a network's linear layers begin: weights and biases on standardised embeddings."""

    mean: np.ndarray
    scale: np.ndarray
    layers: Sequence[tuple[np.ndarray, np.ndarray]]


def opened(course: Course, network: Network | None = None) -> Session:
    """Open a network for training; layers that its checkpoint lacks begin alike for the same seed."""
    require("torch", "finetune").manual_seed(course.seed)
    return course.open(network or course.network)


def linear_start(course: Course) -> Start:
    """Return linear layers fitted on the frozen embeddings of the training rows; C is chosen on the held rows.

    Fine-tuning that starts from a fitted head distorts pretrained features less (Kumar and others 2022,
    arXiv:2202.10054).
    """
    assert course.vectors is not None
    mean, scale = course.vectors[course.train].mean(axis=0), course.vectors[course.train].std(axis=0)
    scaled = ((course.vectors - mean) / np.maximum(scale, 1e-6)).astype(np.float32)
    return Start(mean, scale, [_layer(course, lesson, scaled) for lesson in course.lessons.values()])


def _layer(course: Course, lesson: Lesson, scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    train, held = (rows[lesson.known[rows]] for rows in (course.train, course.held))
    if lesson.task.width == 1:
        return _ridge(lesson, scaled, train, held)
    y = indicators(lesson.task, lesson.y[train])
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for weights, bias in path(scaled[train], y, STRENGTHS):
        value = merit(lesson.task, scaled[held] @ weights + bias, lesson.y[held])
        if best is None or value > best[0]:
            best = (value, weights.copy(), bias.copy())
    assert best is not None
    return best[1], best[2]


def _ridge(lesson: Lesson, scaled: np.ndarray, train: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from headstart.training.learner import standard

    mean, scale = standard(lesson)
    y = (lesson.y - mean) / scale
    x = np.concatenate([scaled[train], np.ones((len(train), 1), np.float32)], axis=1)
    best: tuple[float, np.ndarray] | None = None
    for penalty in (1.0, 10.0, 100.0, 1000.0):
        solved = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y[train])
        error = float(((scaled[held] @ solved[:-1] + solved[-1] - y[held]) ** 2).mean())
        if best is None or error < best[0]:
            best = (error, solved)
    assert best is not None
    return best[1][:-1, None].astype(np.float32), best[1][-1:].astype(np.float32)


def supervised(course: Course, built: Any, start: Start, besides: Callable[..., Any] | None = None) -> Any:
    """Return the network with linear layers behind it, ready to be trained; `besides` is what it learns beside them."""
    from headstart.training.learner import Supervised

    return Supervised(built, list(course.lessons.values()), start.mean, start.scale, start.layers, besides)


def refitted(course: Course, learner: Any) -> Any:
    """Return a learner with the same network and linear layers that are fitted on its embeddings as they are now."""
    some = np.concatenate([course.train, course.held])
    found = embeddings(course, learner, some)
    vectors = np.zeros((len(course.examples.sizes), found.shape[1]), np.float32)
    vectors[some] = found
    return supervised(course, learner.built, linear_start(replace(course, vectors=vectors)))


def scorer(course: Course, learner: Any, session: Session) -> Callable[[], float]:
    """Return what says how good a learner is on the held rows now: the mean over the targets, higher is better."""
    if not course.lessons:
        judge = course.judge
        assert judge is not None
        return lambda: judge(session)
    return lambda: held_score(course, learner)


def held_scores(course: Course, learner: Any) -> dict[str, np.ndarray]:
    """Return each target's scores (held rows, width)."""
    vectors = embeddings(course, learner, course.held)
    found = {}
    for place, name in enumerate(course.lessons):
        weights, bias = learner.linear(place)
        found[name] = vectors @ weights + bias
    return found


def held_score(course: Course, learner: Any) -> float:
    """Return the mean over the targets of their primary metric on the held rows, ties broken by likelihood."""
    total = 0.0
    for name, scores in held_scores(course, learner).items():
        lesson = course.lessons[name]
        known = lesson.known[course.held]
        y = lesson.y[course.held][known]
        total += float(lesson.task.correct(scores[known], y).mean()) + 1e-3 * merit(lesson.task, scores[known], y)
    return total / len(course.lessons)


def embeddings(course: Course, learner: Any, rows: np.ndarray) -> np.ndarray:
    """Return the learner's unit-length embeddings of some rows, without gradients."""
    torch = require("torch", "finetune")
    device = next(learner.parameters()).device
    order = rows[np.argsort(-course.examples.sizes[rows], kind="stable")]
    found: dict[int, np.ndarray] = {}
    learner.eval()
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            some = order[start : start + 32]
            given = {
                name: torch.from_numpy(np.ascontiguousarray(each)).to(device)
                for name, each in course.examples.batch(some).items()
            }
            found |= dict(zip(some.tolist(), learner.embedding(given).cpu().numpy(), strict=True))
    return np.stack([found[row] for row in rows.tolist()])


def measured(course: Course, learner: Any, plan: Any) -> Estimate:
    """Return what an epoch costs: seconds, by some steps on real rows without changing a weight; and memory."""
    torch = require("torch", "finetune")
    from headstart.training.batches import batches
    from headstart.training.blocks import groups, to_training

    frozen = max(plan.frozen, 0)
    groups(
        learner.network, learner.head, frozen=frozen, rate=0, head_rate=0, decay=1, weight_decay=0, still=learner.still
    )
    to_training(learner.network, fresh=learner.fresh)
    planned = batches(course.examples.sizes, course.train, plan.batch, 0, course.seed, 0)
    device = next(learner.parameters()).device
    taken, rows = 0.0, 0
    for number, some in enumerate(planned[: TRIED + 1]):
        started = time.perf_counter()
        batch = course.examples.batch(some, 0)
        given = {name: torch.from_numpy(np.ascontiguousarray(each)).to(device) for name, each in batch.items()}
        learner(given, torch.from_numpy(some)).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number or len(planned) == 1:
            taken, rows = taken + time.perf_counter() - started, rows + len(some)
    learner.zero_grad(set_to_none=True)
    moving = sum(each.numel() for each in learner.parameters() if each.requires_grad)
    return Estimate(taken / max(rows, 1) * len(course.train), 16 * moving)


def affordable(course: Course, epoch_seconds: float, plan: Any) -> Any:
    """Return the plan with as many epochs as the budget has room for.

    Raises:
        ResourceError: there is no room for one.
    """
    from headstart.training.loop import agreed

    left = course.budget.left()
    if left == float("inf"):
        return plan
    epochs = agreed(int(SPARE * left // max(epoch_seconds, 1e-6)))
    if epochs < 1:
        raise ResourceError(
            f"One epoch takes about {epoch_seconds:.0f} s, and {max(left, 0):.0f} s of the budget are left.",
            hint="Give a larger --budget.",
        )
    return replace(plan, epochs=min(plan.epochs, epochs))


def interpolated(learner: Any, before: Mapping[str, Any], score: Callable[[], float], floor: float) -> (
    tuple[float, float, list[Candidate]]
):  # fmt: skip
    """Put the weights between the pretrained and the tuned ones that are best on the held rows into the learner.

    Args:
        before: the learner's state before training.
        floor: the score of those weights.

    Returns:
        The share of the way to the tuned weights, its score, and what was tried.
    """
    from headstart.training.tuned import mixed

    tuned = {name: each.clone() for name, each in learner.state_dict().items()}
    best, race = (0.0, floor), [Candidate("share 0 of the way to the tuned weights", floor, 0.0)]
    for share in SHARES:
        started = time.perf_counter()
        learner.load_state_dict(mixed(before, tuned, share))
        value = score()
        race.append(Candidate(f"share {share:g}", value, time.perf_counter() - started))
        if value > best[1]:
            best = (share, value)
    learner.load_state_dict(mixed(before, tuned, best[0]) if best[0] else dict(before))
    chosen = SHARES.index(best[0]) + 1 if best[0] else 0
    race[chosen] = replace(race[chosen], chosen=True)
    return best[0], best[1], race


def handed_back(course: Course, learner: Any, score: float, **known: Any) -> Tuned:
    """Write the tuned network and return it with a linear head for each target."""
    from headstart.training.tuned import saved

    network = saved(course.network, learner.network, place(course))
    return answered(course, learner, network, score, **known)


def place(course: Course) -> Path:
    """Return where the tuned network is written."""
    return own_place(course, "network")


def own_place(course: Course, name: str) -> Path:
    """Return where something of the course is written: each process of several writes the same, to its own place."""
    return course.folder / f"{name}{process_rank() or ''}"


def answered(course: Course, learner: Any, network: Network, score: float, **known: Any) -> Tuned:
    """Return a network on disk with a linear head for each target."""
    heads = {name: Linear(("embedding",), *learner.linear(place)) for place, name in enumerate(course.lessons)}
    return Tuned(network, heads, score, **known)


def number(given: Mapping[str, Any], name: str, least: float) -> float:
    """Return a setting of a method as a number.

    Raises:
        UsageError: it is none, or too small.
    """
    try:
        value = float(given[name])
    except (TypeError, ValueError):
        value = float("nan")
    if value >= least:
        return value
    raise UsageError(f"{name} is '{given[name]}'.", allowed=f"It must be a number, at least {least:g}.")
