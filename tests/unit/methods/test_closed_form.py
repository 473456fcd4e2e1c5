import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headstart.heads.kernel import gaussian
from headstart.methods._closed_form import solve, solve_landmarks
from headstart.methods._logistic import path


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 5)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 40)]
    return x, y, gaussian(x, x, 2.0)


def brute(kernel, y, ridge, groups):
    held_out = np.empty_like(y)
    for group in np.unique(groups):
        inside, outside = groups != group, groups == group
        dual = np.linalg.solve(kernel[np.ix_(inside, inside)] + ridge * np.eye(inside.sum()), y[inside])
        held_out[outside] = kernel[np.ix_(outside, inside)] @ dual
    return held_out


@pytest.mark.parametrize("groups", [np.arange(40), np.arange(40) // 3, np.arange(40) % 4])
def test_leaving_groups_out_equals_fitting_without_them(problem, groups):
    _, y, kernel = problem
    solved = solve(kernel.copy(), y, 0.1, groups)
    assert np.allclose(solved.held_out, brute(kernel, y, 0.1, groups), atol=2e-3)
    assert np.allclose((kernel + 0.1 * np.eye(40)) @ solved.dual, y, atol=1e-3)


def test_landmarks_hold_folds_out(problem):
    x, y, _ = problem
    points = x[:12]
    features, among = gaussian(x, points, 2.0), gaussian(points, points, 2.0)
    fold = np.arange(40) % 3
    solved = solve_landmarks([features[:25], features[25:]], among, y, 0.1, fold)
    penalty = 0.1 * among + 1e-5 * 40 * np.eye(12)
    for each in range(3):
        inside = fold != each
        dual = np.linalg.solve(features[inside].T @ features[inside] + penalty, features[inside].T @ y[inside])
        assert np.allclose(solved.held_out[~inside], features[~inside] @ dual, atol=5e-3)


@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_logistic_regression_equals_scikit_learns(problem, strength):
    x, y, _ = problem
    *_, (weights, bias) = path(x, y, [strength])
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=2000).fit(x, y.argmax(axis=1))
    ours = x @ weights + bias
    assert np.allclose(ours - ours.mean(axis=1, keepdims=True), theirs.decision_function(x), atol=0.02)
