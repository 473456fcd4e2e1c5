"""The gate: what counts as faster, and as shown to answer as well."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages import gate
from headstart.stages.gate import Merit, Timing
from headstart.testing.toys import toy_runtime


def timing(seconds, rates):
    return Timing(np.array(seconds, np.float64)[:, None], np.array(rates, np.float64))


def test_faster_is_what_gains_in_nearly_every_round():
    before = timing([1.0] * 7, [100] * 7)
    assert gate.pace(before, timing([0.5] * 7, [200] * 7)).faster
    assert gate.pace(before, timing([0.5] * 6 + [1.5], [100] * 7)).faster
    assert gate.pace(before, timing([1.0] * 7, [110] * 7)).faster


def test_noise_and_what_is_slower_otherwise_is_not_faster():
    before = timing([1.0] * 7, [100] * 7)
    assert not gate.pace(before, timing([0.99] * 7, [101] * 7)).faster
    assert not gate.pace(before, timing([0.5, 0.5, 0.5, 0.5, 1.5, 1.5, 1.5], [100] * 7)).faster
    assert not gate.pace(before, timing([0.5] * 7, [90] * 7)).faster


def test_a_slower_model_is_told_from_a_faster_one_by_the_clock():
    table = {"text": ["My order", "red", "green"]}
    runtimes = {"slow": toy_runtime(delay=0.01), "fast": toy_runtime()}
    found = gate.timed(runtimes, table, rounds=4, many=6)
    assert found["slow"].singles.shape == (4, 3)
    assert gate.pace(found["slow"], found["fast"]).faster
    assert not gate.pace(found["fast"], found["slow"]).faster
    figures = found["slow"].figures()
    assert figures["p95_ms"] >= figures["p50_ms"] >= 10


def test_figures_of_two_models_do_not_contradict_how_they_compare():
    # The machine was slow in the later rounds, and in one of them for the second model alone.
    first, second = timing([1.0, 1.0, 2.0], [100.0, 100.0, 40.0]), timing([0.5, 0.5, 4.0], [150.0, 30.0, 60.0])
    figures = second.figures(first)
    assert figures["p50_ms"] == 0.5 * first.figures()["p50_ms"]
    assert figures["rows_per_s"] == 1.5 * first.figures()["rows_per_s"]
    assert first.figures(first) == first.figures()


def test_points_lost_are_paired_and_bounded():
    before, after = np.ones(1000), np.ones(1000)
    after[:10] = 0
    found = gate.drop(before, after, share=True)
    assert found.points == pytest.approx(1.0)
    assert 1.4 < found.bound < 1.8
    assert gate.drop(before, after, share=True, forms=10).bound > found.bound


def test_equal_answers_of_few_rows_show_little():
    same = np.ones(60)
    assert gate.drop(same, same, share=True).bound == pytest.approx(4.3, abs=0.1)
    assert gate.drop(np.ones(3000), np.ones(3000), share=True).bound == pytest.approx(0.1, abs=0.01)
    assert gate.drop(same, same, share=False).bound == 0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300))
def test_the_bound_is_never_below_the_points_lost(pairs):
    before, after = (np.array(each, np.float64) for each in zip(*pairs, strict=True))
    found = gate.drop(before, after, share=True)
    assert found.bound >= found.points
    assert found.points == pytest.approx(100 * (before.mean() - after.mean()))


def test_the_bound_holds_as_often_as_it_says():
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        before = np.ones(400)
        after = (rng.random(400) > 0.02).astype(np.float64)
        held += gate.drop(before, after, share=True).bound >= 2.0
    assert held / 300 > 0.93


def test_only_what_nothing_else_beats_in_every_way_is_kept():
    merits = {
        "whole": Merit(0.93, -10, 100, -90),
        "small": Merit(0.92, -5, 200, -20),
        "worse": Merit(0.91, -6, 150, -30),
        "large": Merit(0.93, -9, 120, -95),
    }
    assert gate.pareto(merits) == ["whole", "small", "large"]


def test_agreement_of_words_and_of_numbers():
    assert gate.agreement(["a", "b", "c", "d"], ["a", "b", "c", "x"]) == 0.75
    assert gate.agreement([0.0, 10.0, 20.0], [0.01, 10.05, 25.0]) == pytest.approx(2 / 3)
    assert gate.agreement([], []) == 1.0
    assert gate.agreement([["a"], ["b", "c"]], [["a"], ["b"]]) == 0.5
