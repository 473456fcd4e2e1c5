"""YOLOX in PyTorch: the same numbers as the graph, new classes, SimOTA by hand, and a loss that goes down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")

from safetensors.torch import save_file  # noqa: E402

from headstart.formats import _yolox_loss  # noqa: E402
from headstart.formats.openvino import OpenVINO  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from tests.unit.formats.test_yolox import GRAPH, network, pixels, saved, shared  # noqa: E402

pytestmark = pytest.mark.slow


def opened(given):
    assert Torch().supports(given) == ""
    return Torch().open(given, "f32", 1)


@shared
def test_pytorch_gives_what_the_exported_graph_gives():
    runtime = pytest.importorskip("onnxruntime")
    given = pixels(1, 416)
    theirs = runtime.InferenceSession(str(GRAPH), providers=["CPUExecutionProvider"]).run(None, {"images": given})[0]
    module = opened(network(GRAPH, 80)).trainable().module
    with torch.no_grad():
        ours = module(torch.from_numpy(given))
        ours[..., 4:] = ours[..., 4:].sigmoid()
    ours = ours.numpy()
    assert np.abs(ours - theirs).max() < 1e-3
    assert (ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs) > 1 - 1e-6


def test_openvino_gives_what_pytorch_gives(tmp_path):
    given, own = pixels(), network(saved(tmp_path), 2)
    ours, theirs = OpenVINO().open(own, "f32", 1).run({"pixels": given}), opened(own).run({"pixels": given})
    assert theirs["counts"].tolist() == ours["counts"].tolist()
    assert theirs["counts"].sum() > 0
    assert np.abs(theirs["boxes"]).max() < 1000
    for name in theirs:
        assert np.allclose(ours[name], theirs[name], atol=1e-3)


def test_other_classes_get_new_layers_always_the_same(tmp_path):
    path = saved(tmp_path)
    old = opened(network(path, 2)).trainable().module.state_dict()
    new, again = (opened(network(path, 7)).trainable().module.state_dict() for _ in range(2))
    assert old.keys() == new.keys()
    assert all(torch.equal(new[name], again[name]) for name in new)
    changed = {name for name in old if old[name].shape != new[name].shape}
    assert changed == {f"head.level{level}.classes.{kind}" for level in range(3) for kind in ("weight", "bias")}
    assert all(torch.equal(old[name], new[name]) for name in old.keys() - changed)
    assert float(new["head.level0.classes.bias"].sigmoid().max()) == pytest.approx(0.01)
    # Written as it is now, it opens again as it is, with and without PyTorch.
    save_file(new, tmp_path / "tuned.safetensors")
    tuned = network(tmp_path / "tuned.safetensors", 7)
    assert all(torch.equal(new[name], each) for name, each in opened(tuned).trainable().module.state_dict().items())
    assert OpenVINO().supports(tuned) == ""


def one(logits, boxes, classes):
    """Return what is assigned on a picture of 64 x 64: 64 + 16 + 4 places."""
    corners, strides = _yolox_loss.places((64, 64), "cpu")
    found = _yolox_loss.decoded(logits, corners, strides)
    at, which, overlap = _yolox_loss.assigned(
        logits, found, torch.tensor(boxes).float(), torch.tensor(classes), (corners + 0.5) * strides, strides
    )
    return at.tolist(), which.tolist(), overlap.tolist(), ((corners + 0.5) * strides)[at]


def test_places_are_near_the_box_and_one_place_finds_one_box():
    logits = torch.zeros(84, 7)
    at, which, _, centres = one(logits, [[8, 8, 24, 24], [40, 40, 60, 60]], [0, 1])
    assert len(set(at)) == len(at)
    assert set(which) == {0, 1}
    for number, centre in zip(which, centres.tolist(), strict=True):
        left, top, right, bottom = ((8, 8, 24, 24), (40, 40, 60, 60))[number]
        assert left < centre[0] < right
        assert top < centre[1] < bottom


def test_as_many_places_find_a_box_as_their_overlaps_sum_up_to():
    corners, strides = _yolox_loss.places((64, 64), "cpu")
    box = torch.tensor([16.0, 16, 48, 48])
    middle, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    logits = torch.zeros(84, 6)
    exact = torch.cat([middle / strides - corners, (size / strides).log()], 1)
    # Far away: no overlap at all.
    logits[:, :2] = 1000
    inside = (((corners + 0.5) * strides - middle).abs() < 8).all(1).nonzero()[:, 0]
    chosen = inside[:4]
    logits[chosen, :4] = exact[chosen]
    at, _, overlap, _ = one(logits, [box.tolist()], [0])
    assert sorted(at) == chosen.tolist()
    assert overlap == pytest.approx([1.0] * 4, abs=1e-4)


def test_a_box_between_all_places_still_finds_one():
    at, which, _, _ = one(torch.zeros(84, 6), [[200, 200, 202, 202]], [0])
    assert (at, which) == ([83], [0]) or len(at) == 1


def test_the_loss_of_boxes_that_are_right_is_small_and_nothing_is_learnt_from_empty_pictures():
    corners, strides = _yolox_loss.places((64, 64), "cpu")
    box = torch.tensor([[16.0, 16, 48, 48]])
    middle, size = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    logits = torch.full((1, 84, 7), -12.0)
    right = 36 + 64 - 64  # a place of the finest level within the box
    logits[0, :, :2] = 1000
    logits[0, right, :4] = torch.cat([middle / strides[right] - corners[right], (size / strides[right]).log()], 1)
    logits[0, right, 4:] = torch.tensor([12.0, 12.0, -12.0])
    given = {
        "pixels": torch.zeros(1, 3, 64, 64),
        "boxes": box,
        "classes": torch.tensor([0]),
        "counts": torch.tensor([1]),
    }
    assert float(_yolox_loss.loss(logits, given)) < 0.01
    wrong = given | {"classes": torch.tensor([1])}
    assert float(_yolox_loss.loss(logits, wrong)) > 5
    nothing = given | {"boxes": box[:0], "classes": torch.zeros(0, dtype=torch.long), "counts": torch.tensor([0])}
    # All that can be wrong is that something is seen: -log(1 - sigmoid(12)) at that one place.
    assert float(_yolox_loss.loss(logits, nothing)) == pytest.approx(12.0, abs=0.01)


def test_a_few_steps_lower_the_loss_and_find_the_shapes(tmp_path):
    pytest.importorskip("PIL")
    pytest.importorskip("pycocotools")
    from headstart.core.dataset import Dataset
    from headstart.objectives.detect import Detect
    from headstart.pipelines import detect
    from tests.unit.objectives import shapes

    table = shapes.table(8)
    objective = Detect.of(Dataset(table, {"image": ["image"]}), range(8), {})
    start = network(GRAPH if GRAPH.is_file() else saved(tmp_path), 80)
    start = replace(start, preprocessing=start.preprocessing | {"size": [96, 96]})
    ready = replace(start, **objective.ready(start))
    session = opened(ready)
    trained, rows = session.trainable(), np.arange(8)
    given = {name: torch.from_numpy(each) for name, each in objective.examples(ready, table, 0).batch(rows).items()}
    moving = torch.optim.AdamW(trained.module.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        trained.module.train()
        moving.zero_grad()
        loss = trained.loss(given)
        loss.backward()
        moving.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    if GRAPH.is_file():  # From random weights more steps are needed.
        pipeline = detect.Detect()
        trained.module.eval()
        records = pipeline.run(ready, session, table["image"], pipeline.settle(dict(objective.options)))
        assert objective.judge(records, table)["map50"] > 0.8
