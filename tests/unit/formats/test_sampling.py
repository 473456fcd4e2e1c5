"""How tokens are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.formats._sampling import Sampler, kept

LOGITS = np.log(np.array([[0.05, 0.6, 0.05, 0.3], [0.7, 0.1, 0.1, 0.1]], np.float32))


def drawn(settings, times=4000):
    sampler = Sampler({"seed": 0, **settings}, 2)
    rows = np.array([sampler.pick(LOGITS) for _ in range(times)])
    return np.stack([np.bincount(row, minlength=4) / times for row in rows.T])


def test_no_temperature_takes_the_likeliest():
    assert Sampler({}, 2).pick(LOGITS).tolist() == Sampler({"temperature": 0}, 2).pick(LOGITS).tolist() == [1, 0]


def test_tokens_are_drawn_by_their_shares():
    assert drawn({"temperature": 1}) == pytest.approx(np.exp(LOGITS), abs=0.03)
    sharper = np.exp(LOGITS * 2) / np.exp(LOGITS * 2).sum(1, keepdims=True)
    assert drawn({"temperature": 0.5}) == pytest.approx(sharper, abs=0.03)


def test_top_k_and_top_p_leave_the_rest_out():
    assert (drawn({"temperature": 1, "top_k": 2})[0] > 0).tolist() == [False, True, False, True]
    assert (drawn({"temperature": 1, "top_p": 0.85})[0] > 0).tolist() == [False, True, False, True]
    assert (drawn({"temperature": 9, "top_p": 1e-9}) > 0).sum(1).tolist() == [1, 1]


def test_what_is_ruled_out_is_never_drawn():
    shares, tokens = kept(np.array([-np.inf, 0.0, 0.0, -np.inf]), 0, 1.0)
    assert tokens.tolist() == [1, 2] and shares.tolist() == [0.5, 0.5]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 0.9), (5, 1.0), (7, 0.6), (1, 0.1)])
def test_what_is_kept_is_what_transformers_keeps(top_k, top_p):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 40)) * 2)
    wanted = logits
    if top_k:
        wanted = transformers.TopKLogitsWarper(top_k)(None, wanted)
    wanted = transformers.TopPLogitsWarper(top_p)(None, wanted).softmax(-1)[0].numpy()
    shares, tokens = kept(logits[0].numpy(), top_k, top_p)
    assert set(tokens.tolist()) == set(np.flatnonzero(wanted).tolist())
    assert shares / shares.sum() == pytest.approx(wanted[tokens], abs=1e-9)
