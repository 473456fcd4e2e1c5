"""Every row once an epoch, in batches of like size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.core.course import Examples
from headstart.training.batches import ahead, batches


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=200),
    count=st.integers(1, 40),
    longest=st.sampled_from([0, 64, 4096]),
    epoch=st.integers(0, 3),
)
def test_every_row_once(sizes, count, longest, epoch):
    rows = np.arange(len(sizes))[:: 2 if len(sizes) > 3 else 1]
    wide = np.array(sizes)
    made = batches(wide, rows, count, longest, 7, epoch)
    assert sorted(np.concatenate(made).tolist()) == rows.tolist()
    for some in made:
        assert len(some) <= count
        assert (np.diff(wide[some]) <= 0).all()
        assert not longest or len(some) == 1 or len(some) * wide[some].max() <= longest
    assert all(np.array_equal(a, b) for a, b in zip(made, batches(wide, rows, count, longest, 7, epoch), strict=True))


def test_epochs_differ():
    sizes = np.ones(100, int)
    first, second = (np.concatenate(batches(sizes, np.arange(100), 8, 0, 0, epoch)) for epoch in (0, 1))
    assert not np.array_equal(first, second)


class Broken(Examples):
    sizes = np.ones(4)

    def batch(self, rows, epoch=None):
        if 2 in rows:
            raise ValueError("row 2")
        return {"rows": rows}


def test_an_error_of_a_row_is_raised_where_it_is_read():
    coming = ahead(Broken(), [np.array([0, 1]), np.array([2, 3])], 0)
    assert next(coming)[1]["rows"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="row 2"):
        next(coming)


def test_nothing_planned():
    assert list(ahead(Broken(), [], 0)) == []
