"""scikit-learn's own checks of an estimator, on numeric arrays, which the estimator takes beside texts."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import check_estimator

from headstart.sklearn import HeadstartClassifier


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks():
    results = check_estimator(HeadstartClassifier(method="scratch"), on_fail=None, on_skip=None)
    failed = [f"{each['check_name']}: {each['exception']}" for each in results if each["status"] == "failed"]
    assert failed == []
    assert sum(each["status"] == "passed" for each in results) > 45
