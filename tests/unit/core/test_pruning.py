"""Channels of a linear layer that are left out, and the others that do their work."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.core.pruning import Moments, pruned


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def moments(x, y):
    found = Moments(x.shape[1], y.shape[1])
    for part in np.array_split(np.arange(len(x)), 3):
        found.add(x[part].astype(np.float32), y[part].astype(np.float32))
    return found


def error(found, x, y):
    return float(((x[:, found.kept] @ found.weight.T + found.bias - y) ** 2).mean())


def test_channels_that_nothing_reads_go_first_and_nothing_changes(rng):
    x, weight, bias = rng.normal(size=(500, 20)), rng.normal(size=(6, 20)), rng.normal(size=6)
    weight[:, ::2] = 0
    found = pruned(moments(x, x @ weight.T + bias), weight, 10)
    np.testing.assert_array_equal(found.kept, np.arange(1, 20, 2))
    np.testing.assert_allclose(found.weight, weight[:, 1::2], atol=1e-4)
    np.testing.assert_allclose(found.bias, bias, atol=1e-4)


def test_what_a_constant_channel_gave_goes_into_the_bias(rng):
    x, weight = rng.normal(size=(500, 8)), 5 * rng.normal(size=(3, 8))
    x[:, 4] = 7.0
    found = pruned(moments(x, x @ weight.T), weight, 7)
    assert 4 not in found.kept
    assert error(found, x, x @ weight.T) < 1e-6


def test_of_channels_that_say_the_same_one_stays_and_does_the_work_of_both(rng):
    x, weight = rng.normal(size=(500, 8)), rng.normal(size=(3, 8))
    x[:, 5] = 2 * x[:, 2]
    y = x @ weight.T
    found = pruned(moments(x, y), weight, 7)
    assert {2, 5} - set(found.kept.tolist())
    assert error(found, x, y) < 0.01 * y.var()


def test_the_weights_that_stay_are_those_of_least_squares(rng):
    x = rng.normal(size=(2000, 16)) @ rng.normal(size=(16, 16))
    weight = rng.normal(size=(5, 16))
    y = x @ weight.T + 1
    found = pruned(moments(x, y), weight, 9)
    given = np.concatenate([x[:, found.kept], np.ones((len(x), 1))], axis=1)
    best = ((given @ np.linalg.lstsq(given, y, rcond=None)[0] - y) ** 2).mean()
    cut = ((x[:, found.kept] @ weight[:, found.kept].T + 1 - y) ** 2).mean()
    assert best <= error(found, x, y) < 1.1 * best < 0.5 * cut


def test_the_channels_that_stay_are_better_than_those_of_the_largest_weights(rng):
    x = rng.normal(size=(2000, 32)) * np.geomspace(0.01, 1, 32) @ rng.normal(size=(32, 32))
    weight = rng.normal(size=(5, 32))
    y = x @ weight.T
    found = pruned(moments(x, y), weight, 8)
    large = np.argsort(-np.linalg.norm(weight, axis=0))[:8]
    theirs = ((x[:, large] @ np.linalg.lstsq(x[:, large], y, rcond=None)[0] - y) ** 2).mean()
    assert error(found, x, y) < theirs


@pytest.mark.parametrize("keep", [1, 7, 99])
def test_as_many_stay_as_are_asked_for_in_their_order(rng, keep):
    x, weight = rng.normal(size=(300, 100)), rng.normal(size=(4, 100))
    found = pruned(moments(x, x @ weight.T), weight, keep)
    assert len(found.kept) == keep and found.weight.shape == (4, keep)
    assert (np.diff(found.kept) > 0).all()


def test_fewer_tokens_than_channels_do(rng):
    x, weight = rng.normal(size=(6, 40)), rng.normal(size=(4, 40))
    y = x @ weight.T
    assert error(pruned(moments(x, y), weight, 20), x, y) < 0.01 * y.var()


def test_channels_that_belong_together_go_together(rng):
    x, weight = rng.normal(size=(500, 12)), rng.normal(size=(4, 12))
    weight[:, 3:6] = 0
    x[:, 9:12] = x[:, 6:9] @ rng.normal(size=(3, 3))  # says what another group says
    y = x @ weight.T + 2
    found = pruned(moments(x, y), weight, 2, 3)
    assert found.kept.tolist() in ([0, 1, 2, 6, 7, 8], [0, 1, 2, 9, 10, 11])
    assert error(found, x, y) < 0.01 * y.var()
    alone = pruned(moments(x, y), weight, 12, 1)
    np.testing.assert_array_equal(pruned(moments(x, y), weight, 4, 3).kept, alone.kept)
