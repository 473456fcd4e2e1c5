"""Two views of each row: alike in kind, drawn from the row alone, and told apart by what is learnt from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from headstart.core.course import Examples
from headstart.training import views


class Rows(Examples):
    """Pictures, or recordings of different lengths."""

    def __init__(self, cells):
        self.cells = cells

    @property
    def sizes(self):
        return np.ones(len(self.cells), np.int64)

    def batch(self, rows, epoch=None):
        cells = [self.cells[row] for row in rows]
        if cells[0].ndim > 1:
            return {"pixels": np.stack(cells)}
        return {"samples": np.concatenate(cells), "lengths": np.array([len(each) for each in cells], np.int32)}


PICTURES = Rows(np.random.default_rng(0).standard_normal((6, 3, 20, 14)).astype(np.float32))
SOUNDS = Rows([np.random.default_rng(0).standard_normal(100 + each).astype(np.float32) for each in range(6)])


def test_all_rows_come_twice_and_no_view_is_another():
    made = views.views_of(PICTURES, {}, 0)
    found = made.batch(np.array([4, 1]), 0)["pixels"]
    assert found.shape == (4, 3, 20, 14) and found.dtype == np.float32
    assert not np.allclose(found[0], found[2]) and not np.allclose(found[0], made.rows.cells[4])
    assert np.array_equal(made.batch(np.array([1]), 0)["pixels"], found[[1, 3]]), "a view depends on its row alone"
    for other in (made.batch(np.array([4, 1]), 1), made.batch(np.array([4, 1])),
                  views.views_of(PICTURES, {}, 1).batch(np.array([4, 1]), 0)):  # fmt: skip
        assert not np.allclose(other["pixels"], found)
    assert np.array_equal(made.batch(np.array([4]))["pixels"], made.batch(np.array([4]))["pixels"])


def test_colours_may_come_last():
    last = Rows(np.moveaxis(PICTURES.cells, 1, 3))
    found = views.views_of(last, {"layout": "nhwc"}, 0).batch(np.arange(3), 0)["pixels"]
    first = views.views_of(PICTURES, {"layout": "nchw"}, 0).batch(np.arange(3), 0)["pixels"]
    assert np.allclose(np.moveaxis(found, 3, 1), first)


def test_recordings_are_cut_and_noisy():
    made = views.views_of(SOUNDS, {}, 0).batch(np.array([2, 5]), 0)
    assert made["lengths"].sum() == len(made["samples"]) and len(made["lengths"]) == 4
    assert all(made["lengths"] >= int(0.6 * 102)) and all(made["lengths"] <= [102, 105, 102, 105])
    silent = views.listened(np.zeros(50, np.float32), np.random.default_rng(0))
    assert not silent.any()


@given(some.integers(1, 9), some.integers(1, 9), some.integers(1, 9), some.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_resizing_is_by_straight_lines(height, width, rows, columns):
    picture = np.random.default_rng(0).random((2, height, width)).astype(np.float32)
    found = views.resized(picture, rows, columns)
    assert found.shape == (2, rows, columns)
    assert found.min() >= picture.min() - 1e-6 and found.max() <= picture.max() + 1e-6
    assert np.allclose(views.resized(picture, height, width), picture)
    flat = views.resized(np.full((1, height, width), 0.5, np.float32), rows, columns)
    assert np.allclose(flat, 0.5)


def test_resizing_is_pytorchs():
    torch = pytest.importorskip("torch")
    picture = np.random.default_rng(1).random((3, 7, 5)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(picture)[None], size=(11, 13), mode="bilinear")[0].numpy()
    assert np.allclose(views.resized(picture, 11, 13), wanted, atol=1e-5)


def test_the_loss_is_low_where_views_of_one_row_lie_together():
    torch = pytest.importorskip("torch")
    from headstart.training.simclr import Alike

    class Built:
        module = torch.nn.Identity()

        def run(self, given):
            return {"embedding": given["pixels"]}

    learner = Alike(Built(), 4)
    learner.head = torch.nn.Identity()
    apart = torch.eye(4)
    both = float(learner({"pixels": torch.cat([apart, apart])}, None))
    mixed = float(learner({"pixels": torch.cat([apart, apart.flip(0)])}, None))
    assert both == pytest.approx(np.log(1 + 6 * np.exp(-5)), rel=1e-4) and mixed > 4
