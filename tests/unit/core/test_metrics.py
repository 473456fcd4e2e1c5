import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from headstart.core import metrics

LABELS = arrays.arrays(np.int64, st.integers(5, 60), elements=st.integers(0, 4))


@given(LABELS, st.integers(0, 2**32 - 1))
def test_macro_measures_equal_scikit_learns(truth, seed):
    answer = np.random.default_rng(seed).integers(0, 5, len(truth))
    ours = metrics.macro(metrics.confusion(truth, answer, 5))
    theirs = precision_recall_fscore_support(truth, answer, labels=np.unique(truth), average="macro", zero_division=0)
    assert [ours["precision"], ours["recall"], ours["f1"]] == pytest.approx(theirs[:3])


@given(st.integers(1, 400), st.data())
def test_wilson_equals_scipys(rows, data):
    hits = data.draw(st.integers(0, rows))
    theirs = binomtest(hits, rows).proportion_ci(0.95, "wilson")
    assert metrics.wilson(hits, rows) == pytest.approx([theirs.low, theirs.high], abs=1e-9)


def test_auroc_counts_ties_half():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 9, 200), rng.integers(0, 7, 100)
    theirs = roc_auc_score(np.r_[np.ones(200), np.zeros(100)], np.r_[inside, outside])
    assert metrics.auroc(inside, outside) == pytest.approx(theirs)


def test_calibration_error_of_a_calibrated_and_an_overconfident_model():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1, 20_000)
    right = rng.uniform(size=20_000) < confidence
    assert metrics.calibration_error(confidence, right) < 0.02
    assert metrics.calibration_error(np.full(1000, 0.99), np.arange(1000) % 2 == 0) == pytest.approx(0.49)
    low, high = metrics.calibration_error_interval(confidence, right)
    assert low <= metrics.calibration_error(confidence, right) <= high + 0.01


def draw(rng, rows):
    """Return confidences and hits of a calibrated model that is right nine times in ten."""
    confidence = rng.beta(14, 1, rows)
    return confidence, rng.uniform(size=rows) < confidence


def test_a_certified_threshold_keeps_its_promise():
    """Over many draws, at most 5 % of the thresholds may let in more errors than promised."""
    rng = np.random.default_rng(2)
    many, hits = draw(rng, 400_000)
    broken = given_up = 0
    for _ in range(150):
        threshold = metrics.certified_threshold(*draw(rng, 1000), 0.95)
        given_up += threshold is None
        broken += threshold is not None and hits[many >= threshold].mean() < 0.95
    assert broken <= 0.05 * 150
    assert given_up < 30


def test_no_threshold_is_certified_without_skill_or_rows():
    rng = np.random.default_rng(3)
    for rows in (0, 1, 10, 1000):
        assert metrics.certified_threshold(rng.uniform(size=rows), rng.uniform(size=rows) < 0.5, 0.95) is None


@given(arrays.arrays(np.float64, (7, 4), elements=st.floats(-1e6, 1e6)))
def test_softmax_is_a_distribution(scores):
    chances = metrics.softmax(scores)
    assert np.allclose(chances.sum(axis=1), 1)
    assert (chances >= 0).all()


def test_the_automation_curve_ends_at_all_rows():
    confidence = np.linspace(1, 0.5, 100)
    curve = metrics.automation_curve(confidence, np.arange(100) < 80)
    assert curve[-1] == {"rate": 1.0, "precision": 0.8}
    assert curve[0]["precision"] == 1.0
