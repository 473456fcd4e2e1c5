"""The queue: one lane for each model, and how the next batch is drawn from them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, final

from headstart.server.metrics import Lane as LaneMetrics
from headstart.server.work import WHOLE, Part, Work


@final
@dataclass(eq=False, slots=True)
class Job:
    """One request's work, and how far the model has come with it.

    Args:
        left: cost of the rows that the model has not taken.
        load: what it counts for in its lane: its cost, and at most one batch.
        deadline: when nobody waits for the answer any more, on the monotonic clock.
    """

    work: Work
    lane: Lane
    future: asyncio.Future[list[Any]]
    deadline: float
    left: int
    load: int
    arrived: float = field(default_factory=time.monotonic)
    taken: int = 0
    answered: int = 0
    failed: bool = False
    answers: list[Any] = field(default_factory=list)

    @property
    def next_cost(self) -> int:
        """What its next row costs."""
        return self.work.costs[self.taken]

    def take(self, share: int) -> JobPart:
        """Take the next row, and more while they cost no more than `share` in all."""
        start, costs = self.taken, self.work.costs
        cost = costs[start]
        self.taken += 1
        while self.taken < len(costs) and cost + costs[self.taken] <= share:
            cost += costs[self.taken]
            self.taken += 1
        self.left -= cost
        return JobPart(self, Part(self.work, start, self.taken), cost)


@final
@dataclass(frozen=True, slots=True)
class JobPart:
    """The rows of one job that stand in one batch."""

    job: Job
    part: Part
    cost: int

    def halves(self, first: int) -> tuple[JobPart, JobPart]:
        """Return its first rows and the others."""
        part, middle = self.part, self.part.start + first
        ahead, behind = Part(part.work, part.start, middle), Part(part.work, middle, part.stop)
        return JobPart(self.job, ahead, 0), JobPart(self.job, behind, 0)


@final
@dataclass(eq=False, slots=True)
class Lane:
    """The bounded queue of one model.

    Args:
        room: what may wait in it, in parts of `WHOLE`.
        background: whether it is served only when nothing else waits.
        clock: how much of the model's time it has had; the lane that has had least comes next.
    """

    name: str
    room: int
    measures: LaneMetrics
    background: bool = False
    jobs: dict[Job, None] = field(default_factory=dict)  # in order of arrival; a job leaves in one step
    load: int = 0
    rows: int = 0
    clock: float = 0.0

    def remove(self, job: Job) -> None:
        """Take a job out."""
        del self.jobs[job]
        self.load -= job.load


def draw(lanes: list[Lane]) -> tuple[list[JobPart], list[Job]]:
    """Take the next batch out of lanes that have jobs; return it, and the jobs that were too late for one.

    The lane that has had least of the model's time comes first, and its oldest job says which network runs. Whatever
    waits for that network joins, the lanes in turn, each job with one row at least; what room is left is shared
    evenly, so that a request of thousands of rows runs beside small ones instead of before them.
    """
    late = _expired(lanes)
    lanes = sorted((lane for lane in lanes if lane.jobs), key=lambda lane: (lane.background, lane.clock))
    if not lanes:
        return [], late
    group = next(iter(lanes[0].jobs)).work.group
    window, firsts = _window([lane for lane in lanes if lane.background == lanes[0].background], group)
    spare = max(WHOLE - firsts, 0)
    parts = []
    # Those with little left come first, so that what they do not need goes to the others.
    for place, job in enumerate(sorted(window, key=lambda job: job.left)):
        first = job.next_cost
        part = job.take(first + spare // (len(window) - place))
        spare -= part.cost - first
        parts.append(part)
        job.lane.clock += part.cost
        job.lane.rows -= len(part.part)
        if job.taken == len(job.work.costs):
            job.lane.remove(job)
    return parts, late


def _window(lanes: list[Lane], group: Any) -> tuple[list[Job], int]:
    """Return the oldest jobs of a group, the lanes in turn, whose first rows fit into a batch, and what those cost."""
    window: list[Job] = []
    firsts = 0
    turns: list[Iterator[Job]] = [(job for job in lane.jobs if job.work.group == group) for lane in lanes]
    while turns:
        for turn in list(turns):
            job = next(turn, None)
            if job is None:
                turns.remove(turn)
                continue
            if window and firsts + job.next_cost > WHOLE:
                return window, firsts
            window.append(job)
            firsts += job.next_cost
    return window, firsts


def _expired(lanes: list[Lane]) -> list[Job]:
    now = time.monotonic()
    late = [job for lane in lanes for job in lane.jobs if job.deadline < now]
    for job in late:
        job.lane.remove(job)
        job.lane.rows -= len(job.work.costs) - job.taken
    return late
