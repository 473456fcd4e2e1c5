"""Options of pipelines: what must be a number is one, whoever sends it."""

from __future__ import annotations

import pytest

from headstart.core.errors import UsageError
from headstart.pipelines import registry


@pytest.mark.parametrize("value", ["", "many", "nan", "inf", [1], {}, "1e999"])
@pytest.mark.parametrize(("pipeline", "name"), [("generate", "seed"), ("transcribe", "window"), ("classify", "top")])
def test_options_that_are_numbers_must_be_numbers(pipeline, name, value):
    with pytest.raises(UsageError, match=rf"'{name}' is .* It is a number"):
        registry.get(pipeline)().settle({name: value})


def test_numbers_may_come_as_texts():
    assert registry.get("generate")().settle({"seed": "7", "top_p": "0.5"}) | {} == {
        **registry.get("generate").options, "seed": 7, "top_p": 0.5,
    }  # fmt: skip
    assert registry.get("generate")().settle({"seed": None, "stop": ""})["stop"] == ""
