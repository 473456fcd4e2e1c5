"""Pictures as examples: how they are varied in each epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headstart.core.backbone import Backbone, Network
from headstart.core.errors import UsageError
from headstart.modalities.image import Image
from headstart.stages.examples import examples_of

SIDE = 16


def pictures(varied, sides=(SIDE, SIDE), layout="nchw"):
    """Return four pictures of noise whose pixels the network reads as they are, with no margin to cut from."""
    settings = {"size": list(sides), "crop": None, "layout": layout, "mean": [0, 0, 0], "std": [1, 1, 1], "pad": 0}
    network = Network(Path("."), "toy", {}, Path("toy"), Backbone.parse("local:toy"), preprocessing=settings)
    noise = np.random.default_rng(0).integers(0, 256, (4, *sides, 3), np.uint8)
    cells = np.empty(4, object)
    cells[:] = list(noise)
    return examples_of(Image(["photo"]), network, {"image": cells}, 0, varied)


def turned(picture):
    """Return a picture (3, height, width), and its mirror image, turned by no, one, two and three quarters."""
    return [np.rot90(each, quarters, (1, 2)) for each in (picture, picture[:, :, ::-1]) for quarters in range(4)]


def seen(examples, epochs=60):
    """Return which of its eight positions the first picture is seen in."""
    plain = examples.batch(np.arange(4))["pixels"][0]
    found = set()
    for epoch in range(epochs):
        shown = examples.batch(np.arange(4), epoch)["pixels"][0]
        found |= {place for place, each in enumerate(turned(plain)) if np.array_equal(each, shown)} or {-1}
    return found


def test_each_way_shows_its_own_positions():
    assert seen(pictures("none")) == {0}
    assert seen(pictures("mirror")) == {0, 4}
    assert seen(pictures("turn")) == set(range(8))


def test_a_wide_picture_keeps_its_shape():
    assert seen(pictures("turn", (SIDE, 2 * SIDE))) == {0, 2, 4, 6}


def test_an_epoch_shows_the_same_again():
    first, second = (pictures("turn").batch(np.arange(4), 3)["pixels"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_colours_are_the_last_axis_where_the_network_has_it_so():
    wide = pictures("turn").batch(np.arange(4), 5)["pixels"]
    flat = pictures("turn", layout="nhwc").batch(np.arange(4), 5)["pixels"]
    np.testing.assert_array_equal(flat.transpose(0, 3, 1, 2), wide)


def test_an_unknown_way_is_refused():
    with pytest.raises(UsageError, match="varied is 'spin'"):
        pictures("spin")
