"""Learning rates over the steps, and settings as users type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.core.errors import UsageError
from headstart.training.plan import Plan


@given(steps=st.integers(1, 500), schedule=st.sampled_from(["cosine", "linear", "one_cycle"]), warmup=st.floats(0, 1))
def test_rates_rise_then_fall(steps, schedule, warmup):
    shares = [Plan(schedule=schedule, warmup=warmup).share(step, steps) for step in range(steps)]
    assert all(0 <= each <= 1 for each in shares)
    top = shares.index(max(shares))
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)


def test_settings_are_read_as_what_they_are():
    plan = Plan().given({"epochs": "3", "rate": "1e-3", "gradual": "true", "checkpointing": False})
    assert (plan.epochs, plan.rate, plan.gradual, plan.checkpointing) == (3, 1e-3, True, False)
    assert Plan(**plan.told()) == plan


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"epochs": "many"}, "epochs is 'many'"),
        ({"epochs": 2.5}, "epochs is '2.5'"),
        ({"epochs": 0}, "at least 1"),
        ({"schedule": "steps"}, "'cosine', 'linear', 'one_cycle'"),
        ({"precision": "f64"}, "'auto', 'f32', 'bf16'"),
        ({"average": 1.5}, "between 0 and"),
        ({"gradual": "perhaps"}, "gradual is 'perhaps'"),
    ],
)
def test_what_cannot_be_set_is_told(given, words):
    with pytest.raises(UsageError, match=words):
        Plan().given(given)
