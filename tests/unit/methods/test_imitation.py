"""A pruned network learns to give the vectors of the whole one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

for each in ("torch", "accelerate", "transformers"):
    pytest.importorskip(each, reason=f"{each} is not installed; `make test-all` installs it")

from headstart.core.errors import ResourceError  # noqa: E402
from headstart.core.method import Budget  # noqa: E402
from headstart.formats.openvino import OpenVINO  # noqa: E402
from headstart.methods._imitation import imitated  # noqa: E402
from headstart.testing.courses import toy_course, toy_network  # noqa: E402

PLAN = {"epochs": 20, "rate": 1e-3}
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def course(tmp_path):
    """Return the course of a pruned network; its vectors are the whole one's."""
    whole = toy_course(toy_network(tmp_path / "bert"), tmp_path / "work")
    encoded = whole.examples.batch(np.arange(len(whole.examples.sizes)))
    return replace(whole, network=OpenVINO().prune(whole.network, 0.75, [encoded], tmp_path / "pruned"), options=PLAN)


def likeness(course, network):
    given = course.examples.batch(course.held)
    found = OpenVINO().open(network, "f32", 1).run(given)["embedding"]
    return float((found * course.vectors[course.held]).sum(axis=1).mean())


def test_its_vectors_come_nearer_to_those_of_the_whole_one(course):
    found = imitated(course, course.vectors)
    before, after = likeness(course, course.network), likeness(course, found.network)
    assert 1 - after < 0.95 * (1 - before)
    assert found.score == pytest.approx(after, abs=1e-3)
    assert found.network.config["intermediate_size"] == course.network.config["intermediate_size"] == 16
    assert not found.heads


def test_the_rows_that_it_is_judged_by_are_not_learnt_from_and_labels_are_not_read(course):
    blind = {name: replace(each, y=np.zeros_like(each.y)) for name, each in course.lessons.items()}
    vectors = course.vectors.copy()
    first = imitated(course, vectors)
    second = imitated(replace(course, lessons=blind, folder=course.folder / "second"), vectors)
    assert first.network.backbone.checksum == second.network.backbone.checksum


def test_no_time_for_an_epoch_is_told(course):
    with pytest.raises(ResourceError, match="One epoch takes about"):
        imitated(replace(course, budget=Budget(1e-3)), course.vectors)
