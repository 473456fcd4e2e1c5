"""What a method that changes a network's weights learns from, and what it hands back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.head import Head
from headstart.core.method import Budget, Candidate
from headstart.core.progress import Progress
from headstart.core.task import Task


class Examples(ABC):
    """The rows that a network learns from, as it reads them."""

    notes: Sequence[str] = ()
    """What the user is to know of how they were read, such as how many were cut."""

    @property
    @abstractmethod
    def sizes(self) -> np.ndarray:
        """How long each row is (n,), such as its tokens; rows of like size share a batch. All 1 where all are alike."""

    @abstractmethod
    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return what the network reads of some rows, in their order; for its own loss, the answers beside it.

        Args:
            rows: row numbers (b,).
            epoch: which pass over the rows this is, where they are to be varied (mirrored, cropped, masked); the same
                rows in the same epoch give the same arrays. None gives them as they are.
        """


@dataclass(frozen=True)
class Lesson:
    """One target that a network learns by a linear layer behind its embedding.

    Args:
        task: what is learnt.
        y: encoded targets of all rows, (n,) or (n, labels); what stands at rows without a label is not read.
        known: (n,) whether a row has a label.
    """

    task: Task
    y: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class Course:
    """All that a method needs to change a network's weights.

    Args:
        network: the network on disk; its `use` says what it is trained for.
        open: opens a network with PyTorch, for training.
        examples: the rows.
        train: numbers of the rows to learn from.
        held: numbers of the rows to choose by; they are never learnt from.
        lessons: by target; empty where the network learns what it gives itself (its own loss).
        judge: how good a session's own answers on the held rows are, higher is better; where there are no lessons.
        folder: where the work is kept: checkpoints, and the tuned network.
        seed: makes the result repeatable.
        budget: the time there is.
        threads: cores to use.
        progress: what to report to.
        resume: go on from the checkpoint in `folder`, where there is one.
        options: the method's own settings, such as `epochs`.
        vectors: embeddings (n, width) of all rows, of unit length, by the network as it is; or None.
        unlabelled: more rows of the same kind without answers, or None.
    """

    network: Network
    open: Callable[[Network], Session]
    examples: Examples
    train: np.ndarray
    held: np.ndarray
    lessons: Mapping[str, Lesson]
    folder: Path
    seed: int
    budget: Budget
    threads: int
    progress: Progress
    judge: Callable[[Session], float] | None = None
    resume: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    vectors: np.ndarray | None = None
    unlabelled: Examples | None = None


@dataclass(frozen=True)
class Tuned:
    """What a method hands back that changed a network's weights.

    Args:
        network: the tuned network, on disk in the layout of the one it came from.
        heads: by target, a head that reads `embedding`.
        score: how good it is on the held rows, higher is better.
        race: what was tried.
        notes: sentences for the report.
        trained: what was done, as plain JSON data: epochs, steps, seconds, losses.
        adapter: a folder with all that differs from the course's network, see `core/adapter.py`; None where that is
            more than an adapter holds.
    """

    network: Network
    heads: Mapping[str, Head]
    score: float
    race: Sequence[Candidate] = ()
    notes: Sequence[str] = ()
    trained: Mapping[str, Any] = field(default_factory=dict)
    adapter: Path | None = None


@dataclass(frozen=True)
class Estimate:
    """What a course is going to cost: seconds, and bytes of memory beyond what is in use."""

    seconds: float
    memory: int
