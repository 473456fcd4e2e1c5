"""Settings are searched on held-out rows, within the budget, alike for the same seed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import pytest

pytest.importorskip("optuna", reason="optuna is not installed; `make test-all` installs it")

from headstart.core.backbone import Backbone, Network
from headstart.core.course import Course, Estimate, Examples, Tuned
from headstart.core.errors import ResourceError
from headstart.core.method import Budget, NetworkMethod
from headstart.core.progress import Quiet
from headstart.stages.search import search

pytestmark = pytest.mark.filterwarnings("ignore")


class NoRows(Examples):
    sizes = np.ones(0)

    def batch(self, rows, epoch=None):
        return {}


@final
class Toy(NetworkMethod):
    """Best at a rate of 2e-4."""

    pretrained = True
    options: ClassVar[dict[str, object]] = {}

    def __init__(self, seconds: float = 0.0):
        self.seconds, self.seen = seconds, []

    def supports(self, course):
        return ""

    def estimate(self, course):
        return Estimate(0, 0)

    def tune(self, course):
        time.sleep(self.seconds)
        if course.budget.left() <= 0:
            raise ResourceError("no room")
        rate = course.options.get("rate", 1e-3)
        self.seen.append((course.folder.name, dict(course.options)))
        return Tuned(course.network, {}, -abs(np.log(rate / 2e-4)))


@pytest.fixture
def course(tmp_path):
    network = Network(tmp_path, "toy", {}, tmp_path / "w", Backbone("local", "toy"))
    rows = np.arange(4)
    return Course(network, lambda each: None, NoRows(), rows, rows, {}, tmp_path, 0, Budget(), 1, Quiet())


def test_it_finds_better_settings_than_the_methods_own(course):
    method = Toy()
    found = search(method, course, 15)
    assert method.seen[0] == ("trial0", {})
    assert found.tuned.score > -abs(np.log(1e-3 / 2e-4))
    assert found.tuned.score == max(each.score for each in found.trials)
    assert [each.chosen for each in found.trials].count(True) == 1
    assert len(found.trials) == 15
    assert search(Toy(), course, 15).options == found.options


def test_what_the_user_set_stays(course):
    method = Toy()
    search(method, replace(course, options={"rate": 5e-4}), 4)
    assert {each["rate"] for _, each in method.seen} == {5e-4}


def test_it_ends_with_the_budget(course):
    found = search(Toy(0.05), replace(course, budget=Budget(0.12)), 50)
    assert 1 <= len(found.trials) <= 3
    with pytest.raises(ResourceError):
        search(Toy(0.01), replace(course, budget=Budget(1e-6)), 3)


def test_folders_are_apart(course):
    method = Toy()
    search(method, course, 3)
    assert [Path(name).name for name, _ in method.seen] == ["trial0", "trial1", "trial2"]
