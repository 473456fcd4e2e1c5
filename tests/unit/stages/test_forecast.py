"""Forecasts of learning curves: what is there is found again, and nothing that is measured breaks them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.stages.forecast import forecast, mmf, power

SIZES = np.array([100.0, 200.0, 400.0, 800.0, 1600.0])
BEYOND = np.array([1600.0, 3200.0, 6400.0, 12800.0])
QUIET = 1e-8 * np.eye(len(SIZES))
shares = st.floats(0.0, 1.0)


def draws(errors: np.ndarray, noise: float = 0.005) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(errors + noise * rng.standard_normal((200, len(errors))), 0, None)


@given(floor=st.floats(0.0, 0.2), rise=st.floats(0.1, 0.5), exponent=st.floats(0.15, 1.2))
@settings(deadline=None, max_examples=50)
def test_a_power_law_is_found_again_at_eight_times_its_rows(floor, rise, exponent):
    def truth(sizes: np.ndarray) -> np.ndarray:
        return floor + rise * (sizes / SIZES[0]) ** -exponent

    found = power(SIZES, truth(SIZES), QUIET, 1600.0).at(BEYOND)
    # Over a grid of these curves it is 0.004 on average and 0.031 at the most (12,000 by chance), where high floors are
    # hoped to be lower.
    assert np.abs(found - truth(BEYOND)).max() < 0.035


@given(floor=st.floats(0.0, 0.2), exponent=st.floats(0.3, 1.2), half=st.floats(50, 400))
@settings(deadline=None, max_examples=50)
def test_an_mmf_curve_is_found_again_at_eight_times_its_rows(floor, exponent, half):
    def truth(sizes: np.ndarray) -> np.ndarray:
        return floor + (0.9 - floor) / (1 + (sizes / half) ** exponent)

    found = mmf(SIZES, truth(SIZES), QUIET, 0.9, 1600.0).at(BEYOND)
    # Over a grid of these curves it is 0.013 on average and 0.078 at the most, where high floors are hoped to be lower.
    assert np.abs(found - truth(BEYOND)).max() < 0.09


@given(
    errors=st.lists(st.floats(0.0, 1.5), min_size=2, max_size=6),
    first=st.integers(1, 500),
    factor=st.floats(1.2, 4.0),
    worst=shares,
    noise=st.floats(0.0, 0.2),
    blank=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_whatever_was_measured_the_forecast_is_finite_and_never_rises(errors, first, factor, worst, noise, blank):
    sizes = first * factor ** np.arange(len(errors))
    measured = np.array(errors)
    made = forecast(sizes, measured, draws(measured, noise), worst, 1.25 * sizes[-1], blank=blank)
    beyond = sizes[-1] * np.array([1.0, 1.25, 3.0, 8.0, 100.0])
    for value, low, high in (made.at(beyond), made.ratio(1.25 * sizes[-1], beyond[1:])):
        assert np.isfinite([value, low, high]).all()
        assert (low <= value).all() and (value <= high).all()
        assert (np.diff(value) <= 1e-9).all()
        assert low.min() >= 0
    assert made.at(beyond)[2].max() <= max(measured.max(), worst) + 1e-9
    assert made.ratio(1.25 * sizes[-1], beyond[1:])[2].max() <= 1 + 1e-9


def test_the_truth_lies_in_the_band_about_as_often_as_promised():
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(150):
        floor, exponent = rng.uniform(0.0, 0.1), rng.uniform(0.25, 0.8)
        measured = floor + 0.35 * (SIZES / SIZES[0]) ** -exponent + 0.01 * rng.standard_normal(len(SIZES))
        truth = floor + 0.35 * (4 * SIZES[-1] / SIZES[0]) ** -exponent
        _, low, high = forecast(SIZES, measured, draws(measured, 0.01), 0.9, 1600.0).at([4 * 1600.0])
        hits.append(low[0] <= truth <= high[0])
    assert 0.75 < np.mean(hits) < 1.0


def test_noisier_curves_have_wider_bands():
    errors = 0.1 + 0.3 * (SIZES / 100) ** -0.5
    widths = []
    for noise in (0.001, 0.01, 0.04):
        _, low, high = forecast(SIZES, errors, draws(errors, noise), 0.9, 1600.0).at(BEYOND)
        widths.append(float((high - low)[-1]))
    assert widths == sorted(widths)
    assert widths[0] < 0.06


def test_that_all_errors_are_off_together_matters_less_for_their_ratio():
    errors = 0.1 + 0.3 * (SIZES / 100) ** -0.5
    rng = np.random.default_rng(0)
    together = errors + 0.03 * rng.standard_normal((200, 1)) + 0.002 * rng.standard_normal((200, len(errors)))
    made = forecast(SIZES, errors, together, 0.9, 1600.0)
    _, low, high = made.at([3200.0])
    _, less, more = made.ratio(1600.0, [3200.0])
    now = made.at([1600.0])[0][0]
    assert (more - less)[0] * now < 0.5 * (high - low)[0]


def test_a_two_parameter_power_law_would_promise_too_much():
    errors = np.array([0.337, 0.274, 0.209, 0.162, 0.139])
    sizes = 77 * np.array([2.0, 3, 5, 8, 12])
    value, low, high = forecast(sizes, errors, draws(errors, 0.01), 0.99, sizes[-1]).at([130 * 77])
    slope, start = np.polyfit(np.log(sizes), np.log(errors), 1)
    plain = np.exp(start + slope * np.log(130 * 77))
    assert plain < 0.07 - 0.02
    assert value[0] == pytest.approx(0.07, abs=0.02)
    assert value[0] > plain + 0.01
    assert low[0] < 0.07 < high[0]


def test_what_began_from_nothing_is_expected_to_fall_on_where_it_began_slowly():
    def truth(sizes: np.ndarray) -> np.ndarray:
        return 0.95 / (1 + (sizes / 500) ** 0.8)

    errors = truth(SIZES)
    at_eight = truth(np.array([12_800.0]))[0]
    off = [
        abs(forecast(SIZES, errors, draws(errors), 0.95, 1600.0, blank=blank).at([12_800.0])[0][0] - at_eight)
        for blank in (True, False)
    ]
    assert off[0] < off[1]
    assert off[0] < 0.04
