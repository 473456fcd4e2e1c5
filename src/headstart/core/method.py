"""The Method contract: ways to adapt a model to a task."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.arrays import Arrays
from headstart.core.head import Head
from headstart.core.progress import Progress
from headstart.core.task import Task

if TYPE_CHECKING:
    from headstart.core.course import Course, Estimate, Tuned


@dataclass(frozen=True)
class Budget:
    """Seconds that fitting may take, counted from the moment it was made; 0 means no limit."""

    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Return the seconds left, infinite where there is no limit."""
        return self.started + self.seconds - time.monotonic() if self.seconds else float("inf")


@dataclass(frozen=True)
class Job:
    """One target to learn.

    Args:
        task: what is learnt.
        y: encoded targets (n,) or (n, labels).
        features: named arrays of the training rows: `embedding` (n, width), `text` (n,), `row` (n, columns).
        groups: group number of each row (n,); rows of one group never stand on both sides of a split.
        seed: makes the result repeatable.
        budget: the time there is.
        threads: cores to use.
        progress: what to report to.
        memo: what one method worked out from these features and another can use.
        more: `embedding` of the same rows as they look otherwise, such as mirrored: to learn from, not to be judged on.
    """

    task: Task
    y: np.ndarray
    features: Arrays
    groups: np.ndarray
    seed: int
    budget: Budget
    threads: int
    progress: Progress
    memo: dict[str, Any] = field(default_factory=dict)
    more: Sequence[Arrays] = ()


@dataclass(frozen=True)
class Candidate:
    """One entrant of a race: its name, its score on held-out training rows, and what it cost."""

    name: str
    score: float
    seconds: float
    chosen: bool = False
    note: str = ""


@dataclass(frozen=True)
class Fitted:
    """What a method hands back.

    Args:
        head: the fitted head.
        held_out: scores (n, width) for each training row by heads that did not see that row's group.
        race: what was tried.
    """

    head: Head
    held_out: np.ndarray
    race: Sequence[Candidate] = ()

    def score(self, task: Task, y: np.ndarray) -> float:
        """Return the mean of the task's primary metric on the held-out scores."""
        return float(task.correct(self.held_out, y).mean())

    def table(self) -> list[dict[str, Any]]:
        """Return the race as JSON-ready rows."""
        return [vars(each) | {} for each in self.race]


class Method(ABC):
    """One way to adapt (one file in `methods/`): a `HeadMethod` or a `NetworkMethod`."""

    pretrained: bool
    """Whether it needs a pretrained network."""


class HeadMethod(Method):
    """A way to learn one target that leaves the network's weights as they are."""

    @abstractmethod
    def supports(self, task: Task, features: Sequence[str]) -> str:
        """Return an empty string, or the reason why it cannot learn this task from these named arrays."""

    def begin(self, job: Job) -> None:
        """Start, in another thread, what other methods can be fitted beside; `fit` waits for it."""

    @abstractmethod
    def fit(self, job: Job) -> Fitted:
        """Learn the job's target."""


class NetworkMethod(Method):
    """A way to change a network's weights, for all targets at once or for the network's own outputs."""

    options: Mapping[str, Any]
    """Its settings and their defaults."""

    keeps: Sequence[str] = ()
    """Settings in which it keeps to its own, whatever suits an objective's network as a whole."""

    @abstractmethod
    def supports(self, course: Course) -> str:
        """Return an empty string, or the reason why it cannot take this course."""

    def worthwhile(self, course: Course) -> str:
        """Return an empty string, or why it is not tried unasked on a course that it supports."""
        return ""

    @abstractmethod
    def estimate(self, course: Course) -> Estimate:
        """Return what the course is going to cost at least, measured on a few rows."""

    @abstractmethod
    def tune(self, course: Course) -> Tuned:
        """Take the course.

        Raises:
            ResourceError: the budget or the memory does not do for it.
        """
