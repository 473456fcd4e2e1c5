"""timm's folders say how wide their vectors are and what their classes are called, without torch."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.core.backbone import Backbone
from headstart.core.progress import Quiet
from headstart.hubs.local import Local
from tests.unit.hubs.conftest import save, write_json


def opened(folder, classes, named="classifier", features=8, **shapes):
    arrays = {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save(folder / "model.safetensors", **arrays)
    told = {"architecture": "some", "num_classes": classes, "num_features": features}
    write_json(folder / "config.json", told | {"pretrained_cfg": {"classifier": named} if named else {"tag": "a"}})
    return Local().fetch(Backbone.parse(f"local:{folder}"), Quiet())


@pytest.mark.parametrize(
    ("classes", "named", "shapes", "width"),
    [
        (3, "fc", {"fc__weight": (3, 12)}, 12),
        (3, "head.fc", {"head__fc__weight": (3, 20, 1, 1)}, 20),
        (3, ("head", "head_dist"), {"head__weight": (3, 6), "head_dist__weight": (3, 6)}, 6),
        (3, "", {"classifier__weight": (3, 10)}, 10),
        (0, "classifier", {"conv_head__weight": (16, 8, 1, 1)}, 16),
        (0, "head.fc", {"pre_logits__fc2__weight": (24, 24, 1, 1)}, 24),
        (0, "fc", {"conv1__weight": (4, 3, 3, 3)}, 8),
        (3, "fc", {"fc__weight": (5, 12)}, 8),
    ],
)
def test_width_is_what_the_head_reads(classes, named, shapes, width, tmp_path):
    assert opened(tmp_path / "a", classes, named, **shapes).backbone.width == width


def test_usual_classes_have_their_names(tmp_path):
    names = opened(tmp_path / "a", 80, fc__weight=(80, 4)).labels
    assert (names[0], len(names)) == ("person", 80)
    assert list(opened(tmp_path / "b", 3, fc__weight=(3, 4)).labels) == []
    (tmp_path / "b" / "labels.txt").write_text("cat\ndog\nowl\n")
    assert list(opened(tmp_path / "b", 3, fc__weight=(3, 4)).labels) == ["cat", "dog", "owl"]
