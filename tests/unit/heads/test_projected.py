"""A head behind fewer dimensions."""

from __future__ import annotations

import numpy as np

from headstart.heads.linear import Linear
from headstart.heads.projected import Projected, components
from headstart.testing.checks import check_head


def made(width=16, dimensions=4, seed=0):
    rng = np.random.default_rng(seed)
    # Nearly all that differs lies in four directions.
    vectors = rng.normal(size=(50, 4)) @ rng.normal(size=(4, width)) + 0.01 * rng.normal(size=(50, width)) + 1
    vectors = vectors.astype(np.float32)
    mean, axes = components(vectors, dimensions)
    inner = Linear(["embedding"], rng.normal(size=(dimensions, 3)), rng.normal(size=3))
    return Projected(inner, mean, axes), vectors


def test_it_keeps_the_contract_of_heads():
    head, vectors = made()
    assert head.reads == ("embedding",)
    check_head(head, {"embedding": vectors})


def test_components_hold_what_differs():
    _, vectors = made()
    mean, axes = components(vectors, 4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-5)
    left = vectors - mean
    assert np.linalg.norm(left - left @ axes @ axes.T) < 0.05 * np.linalg.norm(left)


def test_its_vectors_have_unit_length_and_what_is_none_stays_finite():
    head, vectors = made()
    np.testing.assert_allclose(np.linalg.norm(head.project(vectors), axis=1), 1, atol=1e-5)
    assert np.isfinite(head.scores({"embedding": head.mean[None]})).all()
