"""Halving: a batch that fails is cut in two until only the row that is to blame is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.server.queue.lanes import JobPart

Outcome = tuple[JobPart, list[Any] | Exception]
"""Some rows of a job, with their answers or what went wrong."""


def answered(parts: Sequence[JobPart]) -> list[Outcome]:
    """Answer a batch; where it fails, halve it until only the row that is to blame fails, and with it its request."""
    parts = [each for each in parts if not each.job.failed]
    if not parts:
        return []
    try:
        answers = type(parts[0].part.work).together([each.part for each in parts])
        return list(zip(parts, answers, strict=True))
    except Exception as error:
        rows = sum(len(each.part) for each in parts)
        if rows == 1:
            parts[0].job.failed = True
            return [(parts[0], error)]
        first, second = _halves(parts, rows // 2)
        return answered(first) + answered(second)


def _halves(parts: Sequence[JobPart], rows: int) -> tuple[list[JobPart], list[JobPart]]:
    """Return the parts of the first `rows` rows, and those of the others."""
    first: list[JobPart] = []
    second: list[JobPart] = []
    for each in parts:
        here = min(len(each.part), max(rows - sum(len(one.part) for one in first), 0))
        if here == len(each.part):
            first.append(each)
        elif not here:
            second.append(each)
        else:
            ahead, behind = each.halves(here)
            first.append(ahead)
            second.append(behind)
    return first, second
