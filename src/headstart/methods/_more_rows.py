"""Rows with labels and rows without, as one set of rows to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np

from headstart.core.course import Course, Examples, Lesson


def joined(course: Course) -> Course:
    """Return a course in which rows without labels, where there are some, are learnt from too, behind the others."""
    if course.unlabelled is None:
        return course
    first, more = len(course.examples.sizes), len(course.unlabelled.sizes)
    lessons = {name: _longer(each, more) for name, each in course.lessons.items()}
    train = np.concatenate([course.train, np.arange(first, first + more)])
    examples = Joined(course.examples, course.unlabelled)
    return replace(course, examples=examples, train=train, lessons=lessons, vectors=None, unlabelled=None)


def _longer(lesson: Lesson, more: int) -> Lesson:
    y = np.concatenate([lesson.y, np.zeros((more, *lesson.y.shape[1:]), lesson.y.dtype)])
    return replace(lesson, y=y, known=np.concatenate([lesson.known, np.zeros(more, bool)]))


@final
class Joined(Examples):
    """Two sets of rows one behind the other."""

    def __init__(self, first: Examples, second: Examples) -> None:
        self.first, self.second = first, second
        self.notes = [*first.notes, *second.notes]

    @property
    def sizes(self) -> np.ndarray:
        """How long each row is (n,)."""
        return np.concatenate([self.first.sizes, self.second.sizes])

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return what the network reads of some rows, in their order."""
        count = len(self.first.sizes)
        late = rows >= count
        if not late.any():
            return self.first.batch(rows, epoch)
        if late.all():
            return self.second.batch(rows - count, epoch)
        parts = (self.first.batch(rows[~late], epoch), self.second.batch(rows[late] - count, epoch))
        places = np.argsort(np.concatenate([np.flatnonzero(~late), np.flatnonzero(late)]))
        ragged = "lengths" in parts[0]
        return {
            name: np.concatenate([pieces[place] for place in places])
            for name in parts[0]
            for pieces in [[piece for part in parts for piece in _rows(part[name], part, ragged and name != "lengths")]]
        }


def _rows(values: np.ndarray, part: dict[str, np.ndarray], ragged: bool) -> Sequence[np.ndarray]:
    """Return each row's own values; of a flat array, as many as `lengths` says."""
    if ragged and len(values) == part["lengths"].sum():
        return np.split(values, np.cumsum(part["lengths"])[:-1])
    return np.split(values, len(values))
