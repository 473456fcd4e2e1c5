"""Beam search of letters against all ways to spell them."""

from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from headstart.core.errors import UsageError
from headstart.pipelines import _beams, _dictation


def spelt(tokens, blank=0):
    return tuple(each for each, _ in groupby(tokens) if each != blank)


def scores(frames, tokens, seed):
    logits = 2 * np.random.default_rng(seed).standard_normal((frames, tokens))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def every_way(found):
    """Return the likelihood of each text, and its likeliest way, of all ways there are."""
    frames, tokens = found.shape
    total, best = {}, {}
    for way in product(range(tokens), repeat=frames):
        value = float(found[np.arange(frames), list(way)].sum())
        text = spelt(way)
        total[text] = np.logaddexp(total.get(text, -np.inf), value)
        best[text] = max(best.get(text, -np.inf), value)
    return total, best


@given(some.integers(1, 5), some.integers(2, 4), some.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_enough_beams_find_the_likeliest_text_of_all(frames, tokens, seed):
    found = scores(frames, tokens, seed)
    total, best = every_way(found)
    told = _beams.likeliest(found, 1000, 0)
    assert total[told] == pytest.approx(max(total.values()))
    way = _beams.aligned(found, told, 0)
    assert spelt(way.tolist()) == told
    assert found[np.arange(frames), way].sum() == pytest.approx(best[told])
    assert np.array_equal(_beams.path(3 + found, 1000, 0), way), "logits need not be logarithms of probabilities"


@given(some.integers(1, 12), some.integers(1, 6), some.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_few_beams_spell_something_that_fits(frames, beams, seed):
    found = scores(frames, 6, seed)
    told = _beams.likeliest(found, beams, 5)
    assert spelt(_beams.aligned(found, told, 5).tolist(), 5) == told


def test_letters_that_are_likely_in_many_ways_win():
    # Alone, each frame is likeliest to be blank; together they are likelier to hold an A somewhere.
    found = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    assert spelt(found.argmax(axis=1).tolist()) == ()
    assert _beams.likeliest(found, 2, 0) == (1,)
    assert spelt(_beams.path(found, 2, 0).tolist()) == (1,)


def test_a_letter_twice_needs_a_blank_between():
    found = scores(5, 3, 0) * 0 - 20
    found[np.arange(5), [1, 1, 0, 1, 2]] = 0
    assert _beams.likeliest(found, 4, 0) == (1, 1, 2)
    assert _beams.aligned(found, (1, 1, 2), 0).tolist() == [1, 1, 0, 1, 2]


@pytest.mark.parametrize("beams", [0, "many", -1, 1.5])
def test_beams_are_whole_numbers(beams):
    with pytest.raises(UsageError, match=f"beams is '{beams}'"):
        _dictation.segments(None, None, [], {"beams": beams})
