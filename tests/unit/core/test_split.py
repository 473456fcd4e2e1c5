import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headstart.core.split import folds, hold_out, strata_of


@given(st.integers(2, 300), st.integers(1, 8), st.integers(1, 200), st.integers(0, 99))
def test_groups_are_never_torn_apart(rows, classes, groups, seed):
    rng = np.random.default_rng(seed)
    strata, group = rng.integers(0, classes, rows), rng.integers(0, groups, rows)
    held, fold = hold_out(strata, group, 0.25, seed), folds(strata, group, 4, seed)
    for each in np.unique(group):
        assert len(set(held[group == each])) == 1
        assert len(set(fold[group == each])) == 1


def test_every_class_is_spread_evenly():
    strata = np.repeat(np.arange(20), 10)
    rows = np.arange(200)
    assert set(np.bincount(strata[hold_out(strata, rows, 0.2, 0)])) == {2}
    fold = folds(strata, rows, 5, 0)
    assert all(set(np.bincount(strata[fold == each])) == {2} for each in range(5))


def test_the_same_seed_gives_the_same_split_and_another_another():
    strata, rows = np.zeros(100, int), np.arange(100)
    assert np.array_equal(hold_out(strata, rows, 0.2, 1), hold_out(strata, rows, 0.2, 1))
    assert not np.array_equal(hold_out(strata, rows, 0.2, 1), hold_out(strata, rows, 0.2, 2))


def test_rare_labels_share_a_stratum():
    assert strata_of(["a", "a", "b", "c"]).tolist() == [0, 0, 3, 3]
