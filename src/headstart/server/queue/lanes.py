"""The queue: one lane for each model, and how the next batch is drawn from them."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, final

from headstart.server.queue.pace import Pace
from headstart.server.queue.work import WHOLE, Part, Work
from headstart.server.record.metrics import Lane as LaneMetrics

BATCH_SECONDS, PRESSED_SECONDS = 0.1, 0.05
"""What a batch may take, so that whoever comes meanwhile does not wait longer; and that in a lane that is pressed."""
SHORT = 0.5
"""Seconds for which a burst may wait; all that comes in it waits so long, before the first is refused."""
DEEP_SHARE, DEEP = 0.5, 0.3
"""The share of what waits for longer than `SHORT` that may be one batch, of `SHORT` seconds at most; and for how many
seconds something has to wait for a lane to stay as deep as it is.

Who comes then waits for what is ahead in any case, and a network answers more rows a second in larger batches. A lane
that has been deep for `CALM_SECONDS` without a refusal has as many clients as it can have: all that waits may be one.
"""
CALM_SECONDS = 1.0
"""After so many seconds without a refusal a lane counts as calm again."""
AHEAD = 4
"""Batches from among whose rows those of one length are chosen, so that nobody is overtaken without end."""
FEW, FEWEST = 16, 4
"""Rows that may wait in a calm lane beyond its batches: where that takes no longer than `SHORT`, and in any case."""


@final
@dataclass(eq=False, slots=True)
class Job:
    """One request's work, and how far the model has come with it.

    Args:
        left: cost of the rows that the model has not taken.
        load: what it counts for in its lane: its cost, and at most half a batch of a pressed lane.
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
        batches: how many batches may wait in it.
        background: whether it is served only when nothing else waits.
        pace: how fast its model is, and so what a batch is.
        load: what waits, each job with its `load`.
        left: what all that waits costs.
        clock: how much of the model's time it has had; the lane that has had least comes next.
        refused: when it was full last, on the monotonic clock.
        deep, drawn: since when it has been deep, and when a batch was drawn last.
    """

    name: str
    batches: int
    measures: LaneMetrics
    background: bool = False
    jobs: dict[Job, None] = field(default_factory=dict)  # in order of arrival; a job leaves in one step
    pace: Pace = field(default_factory=Pace)
    load: int = 0
    left: int = 0
    rows: int = 0
    clock: float = 0.0
    refused: float = -math.inf
    deep: float = math.inf
    drawn: float = -math.inf

    def add(self, job: Job) -> None:
        """Put a job at the end."""
        self.jobs[job] = None
        self.load += job.load
        self.left += job.left
        self.rows += len(job.work.costs)

    def remove(self, job: Job) -> None:
        """Take a job out."""
        del self.jobs[job]
        self.load -= job.load
        self.left -= job.left

    def full(self, load: int, rows: int = 1, *, long: bool = False) -> bool:
        """Return whether so much more is too much.

        A lane that is calm takes a burst of several batches. One that is pressed lets only the next batch wait: more
        would be answered no sooner, and everybody would wait longer.

        Args:
            long: whether it is the work of a network that writes, whose batches take as long as they take.
        """
        if not self.jobs:
            return False
        if self.load + load > self.batches * WHOLE:
            return True
        if long or self.background:
            return False
        pressed = self.pressed
        if not pressed and self._short(rows, load):
            return False
        if pressed:
            return self.load + load > self.pace.batch(PRESSED_SECONDS)
        return self.load + load > self.pace.batch(BATCH_SECONDS) * self.batches

    def _short(self, rows: int, load: int) -> bool:
        """Return whether what waits, and some rows more, are answered soon enough to be taken in a burst."""
        soon = not self.pace.rate or self.load + load <= SHORT * self.pace.rate
        return self.rows + rows <= (FEW if soon else FEWEST)

    @property
    def pressed(self) -> bool:
        """Whether more comes than its model can answer: it has lately refused something."""
        return time.monotonic() - self.refused < CALM_SECONDS

    def batch(self) -> int:
        """Return what the next batch may cost."""
        now = time.monotonic()
        # A request of thousands of rows does not make it longer: it counts for its load alone.
        waits = self.load / self.pace.rate if self.pace.rate else 0.0
        if waits <= DEEP or self.pressed:
            self.deep = math.inf
        elif now - self.drawn > CALM_SECONDS or self.deep > now:
            self.deep = now
        self.drawn = now
        if self.pressed:
            return self.pace.batch(PRESSED_SECONDS)
        if now - self.deep > CALM_SECONDS:
            return self.pace.batch(min(waits, SHORT))
        return self.pace.batch(min(DEEP_SHARE * waits, SHORT) if waits > SHORT else BATCH_SECONDS)


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
    first_work = next(iter(lanes[0].jobs)).work
    whole = WHOLE if first_work.long else lanes[0].batch()
    beside = [lane for lane in lanes if lane.background == lanes[0].background]
    alone = len(beside) == 1 and lanes[0].left <= whole
    if alone and all(job.work.group == first_work.group for job in lanes[0].jobs):
        window, firsts = list(lanes[0].jobs), 0  # All of it fits.
    else:
        window, firsts = _window(beside, first_work.group, whole)
    spare = max(whole - firsts, 0)
    parts = []
    # Those with little left come first, so that what they do not need goes to the others.
    for place, job in enumerate(sorted(window, key=lambda job: job.left)):
        first = job.next_cost
        part = job.take(first + spare // (len(window) - place))
        spare -= part.cost - first
        job.lane.left -= part.cost
        parts.append(part)
        job.lane.clock += part.cost
        job.lane.rows -= len(part.part)
        if job.taken == len(job.work.costs):
            job.lane.remove(job)
    return parts, late


def _window(lanes: list[Lane], group: Any, whole: int) -> tuple[list[Job], int]:
    """Return jobs of a group, the lanes in turn, whose first rows fit into a batch, and what those cost.

    Where not all do, those that are as long as the oldest come before others.
    """
    window: list[Job] = []
    firsts = 0
    queues = [[job for job in lane.jobs if job.work.group == group] for lane in lanes]
    first = queues[0][0]
    if sum(job.next_cost for queue in queues for job in queue) > whole:
        # Long and short texts in one pass are all as dear as the longest; the oldest comes first in any case.
        queues = [
            sorted(_oldest(queue, AHEAD * whole), key=lambda job: abs(job.next_cost - first.next_cost))
            for queue in queues
        ]
        queues[0].sort(key=lambda job: job is not first)
    turns: list[Iterator[Job]] = [iter(queue) for queue in queues]
    while turns:
        for turn in list(turns):
            job = next(turn, None)
            if job is None:
                turns.remove(turn)
                continue
            if window and firsts + job.next_cost > whole:
                return window, firsts
            window.append(job)
            firsts += job.next_cost
    return window, firsts


def _oldest(queue: list[Job], most: int) -> list[Job]:
    """Return the first jobs whose next rows cost no more than `most`."""
    costs = itertools.accumulate(job.next_cost for job in queue)
    return [job for job, cost in zip(queue, costs, strict=True) if cost <= most] or queue[:1]


def _expired(lanes: list[Lane]) -> list[Job]:
    now = time.monotonic()
    late = [job for lane in lanes for job in lane.jobs if job.deadline < now]
    for job in late:
        job.lane.remove(job)
        job.lane.rows -= len(job.work.costs) - job.taken
    return late
