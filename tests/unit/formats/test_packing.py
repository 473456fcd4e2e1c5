"""Packing: every token in exactly one place, and hardly any padding."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headstart.formats._packing import PASS, batches, pool

CAPACITY, ROWS, MULTIPLE = 128, 16, 16


def packed(lengths):
    lengths = np.array(lengths, np.int64)
    ids = np.arange(1, lengths.sum() + 1)
    return ids, list(batches(ids, lengths, CAPACITY, ROWS, MULTIPLE))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200))
def test_each_text_stands_whole_in_one_place(lengths):
    ids, found = packed(lengths)
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    assert sorted(text for each in found for text in each.texts) == list(range(len(lengths)))
    for each in found:
        assert each.ids.size <= max(ROWS * CAPACITY, each.ids.shape[1])
        assert each.ids.shape[1] % MULTIPLE == 0
        for number, (text, start, length) in enumerate(zip(each.texts, each.starts, each.lengths, strict=True)):
            row, place = divmod(start, each.ids.shape[1])
            stands = np.s_[row, place : place + length]
            assert place + length <= each.ids.shape[1]
            assert (each.ids[stands] == ids[first[text] : first[text] + length]).all()
            assert (each.position[stands] == np.arange(length)).all()
            assert (each.segment[stands] == number).all()
        assert ((each.segment < 0) == (each.ids == 0)).all()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200))
def test_a_vector_is_of_its_own_text_alone(lengths):
    for each in packed(lengths)[1]:
        hidden = each.ids[..., None].astype(np.float32)
        means = [each.ids.flat[at : at + n].mean() for at, n in zip(each.starts, each.lengths, strict=True)]
        np.testing.assert_allclose(pool(hidden, each, "mean")[:, 0], means, rtol=1e-5)
        assert (pool(hidden, each, "max")[:, 0] == each.ids.flat[each.starts + each.lengths - 1]).all()
        assert (pool(hidden, each, "cls")[:, 0] == each.ids.flat[each.starts]).all()


def test_one_long_text_does_not_widen_the_others():
    found = packed([256, *[120] * 12])[1]
    assert [each.ids.shape for each in found] == [(1, 256), (12, 128)]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200))
def test_rows_that_end_early_cost_no_more_than_a_pass(lengths):
    for each in packed(lengths)[1]:
        ends = [max(np.flatnonzero(row >= 0), default=-1) + 1 for row in each.segment]
        assert sum(each.ids.shape[1] - -(-end // MULTIPLE) * MULTIPLE for end in ends) <= PASS


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 3)), min_size=1, max_size=100))
def test_texts_of_different_kinds_never_stand_in_one_row(texts):
    lengths, kinds = np.array(texts, np.int64).T
    ids = np.arange(1, lengths.sum() + 1)
    found = list(batches(ids, lengths, CAPACITY, ROWS, MULTIPLE, kinds))
    assert sorted(text for each in found for text in each.texts) == list(range(len(lengths)))
    for each in found:
        rows = each.starts // each.ids.shape[1]
        assert all(len(set(kinds[each.texts][rows == row])) == 1 for row in range(len(each.ids)))


def test_rows_of_different_kinds_stand_in_one_batch():
    lengths = np.full(12, 10)
    (one,) = batches(np.ones(120, np.int64), lengths, CAPACITY, ROWS, MULTIPLE, np.arange(12) % 4)
    assert one.ids.shape == (4, 32)
