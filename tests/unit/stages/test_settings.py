"""A setting that nothing would read is told, not dropped."""

from __future__ import annotations

import pytest

from headstart.core.errors import UsageError
from headstart.core.recipe import Recipe
from headstart.stages.course import check_settings


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(budget=60, options={"epoch": 3}), "Did you mean 'epochs'"),
        (Recipe(method="probe", options={"epochs": 3}), "none is asked for"),
        (Recipe(options={"epochs": 3}), "give a --budget"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(recipe, words):
    with pytest.raises(UsageError, match=words):
        check_settings(recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(budget=60, options={"epochs": 3, "rank": 4, "log": "tensorboard"}),
        Recipe(method="finetune", options={"anything": 1}),
    ],
    ids=["none", "of several methods", "left to the method named"],
)
def test_others_pass(recipe):
    check_settings(recipe)
