"""Boxes: what is learnt from, how pictures and boxes are varied together, and how what is found is judged."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.core.backbone import Backbone, Network
from headstart.core.dataset import Dataset
from headstart.core.errors import DataError, UsageError
from tests.unit.objectives import shapes

Image = pytest.importorskip("PIL.Image")

from headstart import objectives  # noqa: E402
from headstart.objectives import _moved  # noqa: E402
from headstart.objectives.detect import BACKGROUND, Detect  # noqa: E402
from headstart.pipelines.detect import _back  # noqa: E402

LETTERBOX = {"size": [96, 96], "pad": 114, "scale": 1.0, "channels": "rgb", "layout": "nchw"}


def network(**more) -> Network:
    known = {
        "folder": Path(), "architecture": "yolox", "weights": Path(), "library": "onnx", "use": "detect",
        "config": {"layout": "yolox", "classes": 80, "fixed": True}, "preprocessing": LETTERBOX,
        "backbone": Backbone("local", "x", modality="image", uses=("detect",)),
    }  # fmt: skip
    return Network(**(known | more))


def objective(table, rows=None, **columns) -> Detect:
    dataset = Dataset(table, {"image": ["image"]}, origin="shapes")
    return Detect.of(dataset, range(len(table["image"])) if rows is None else rows, columns)


def box(label, *sides, **more):
    return {"label": label, "box": list(sides), **more}


def test_labels_and_columns_are_found_and_boxes_without_an_area_counted():
    table = shapes.table(3)
    table["boxes"][1] = [*table["boxes"][1], box("line", 5, 5, 5, 20)]
    found = objective(table)
    assert found.labels == ["disc", "square"]
    assert found.columns == ("image", "boxes")
    assert found.settings() == {
        "labels": ["disc", "square"], "columns": ["image", "boxes"], "boxes_without_an_area": 1,
    }  # fmt: skip
    assert objectives.registry.get("detect") is Detect
    # Labels come from the training rows alone.
    table["boxes"][2] = [box("moon", 0, 0, 9, 9)]
    assert objective(table, [0, 1]).labels == ["disc", "square"]


def test_boxes_may_be_json_text():
    table = shapes.table(2)
    as_text = {**table, "boxes": [json.dumps(each) for each in table["boxes"]]}
    assert objective(as_text) == objective(table)
    plain, text = (objective(each).examples(network(labels=["disc", "square"]), each, 0) for each in (table, as_text))
    rows = np.arange(2)
    assert np.array_equal(plain.batch(rows)["boxes"], text.batch(rows)["boxes"])


def test_networks_that_read_grey_pictures_learn_from_them():
    table = shapes.table(2)
    given = {"labels": ["disc", "square"], "preprocessing": {**LETTERBOX, "channels": "grey"}}
    batch = objective(table).examples(network(**given), table, 0).batch(np.arange(2), 1)
    assert batch["pixels"].shape == (2, 1, 96, 96) and batch["pixels"].std() > 0


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ({"boxes": ["a", "b"]}, "No column holds boxes"),
        ({"boxes": [[], []]}, "No column holds boxes"),
        ({"boxes": [[box("a", 0, 0, 0, 0)]] * 2}, "no box in the column 'boxes'"),
        ({"boxes": [[box("a", 0, 0, 1, 1)]] * 2, "more": [[box("a", 0, 0, 1, 1)]] * 2}, "2 columns hold boxes"),
    ],
)
def test_what_is_missing_is_said(column, told):
    with pytest.raises(DataError, match=told):
        objective(shapes.table(2) | column)


def test_a_cell_that_is_no_box_is_named():
    table = shapes.table(2)
    for wrong in ("[1, 2]", [{"label": "a", "box": [1, 2, 3]}], [{"box": [1, 2, 3, 4]}], [box("a", 1, 2, 3, "x")]):
        table["boxes"][1] = wrong
        with pytest.raises(DataError, match="Row 2 of the column 'boxes' holds no boxes"):
            objective(table, target="boxes")
    with pytest.raises(DataError, match="no column 'file'"):
        objective(shapes.table(2), target="file")
    with pytest.raises(DataError, match="no column of pictures"):
        Detect.of(Dataset({"boxes": shapes.table(2)["boxes"]}), [0, 1], {})


def test_rows_of_no_use_are_told():
    table = shapes.table(4)
    table["image"][1], table["boxes"][2], table["boxes"][3] = b"no picture", None, []
    found = objective(table, [0]).unusable(table)
    assert found.keys() == {1, 2}  # An empty list says that there is nothing to be found.
    assert "nothing in the column 'boxes'" in found[2]


def test_what_the_network_must_be():
    found = objective(shapes.table(2))
    ready = replace(network(), **found.ready(network()))
    assert (ready.library, ready.labels, ready.config["classes"]) == ("yolox", ["disc", "square"], 2)
    assert not ready.config["fixed"]
    own = network(library="torchvision", config={"without_epsilon": True}, architecture="retinanet_resnet50_fpn")
    ready = replace(own, **found.ready(own))
    assert ready.labels == [BACKGROUND, "disc", "square"]
    assert ready.config == {"without_epsilon": True, "classes": 3}
    assert ready.architecture == "retinanet_resnet50_fpn"
    classifier = replace(own, architecture="mobilenet_v2", backbone=replace(own.backbone, uses=("classify", "embed")))
    ready = replace(classifier, **found.ready(classifier))
    assert (ready.architecture, ready.config["backbone"]) == ("fasterrcnn", "mobilenet_v2")
    assert tuple(ready.backbone.uses) == ("detect",)
    family = network(library="transformers", config={"id2label": {"0": "cat"}, "d_model": 16})
    ready = replace(family, **found.ready(family))
    assert (ready.labels, ready.config["d_model"]) == (["disc", "square"], 16)
    assert ready.config["id2label"] == {"0": "disc", "1": "square"}
    assert found.plan(ready)["rate"] < found.plan(network())["rate"]
    with pytest.raises(UsageError, match="cannot learn to find boxes"):
        found.ready(network(library="timm"))


def test_a_network_that_knows_the_labels_is_compared_with_what_becomes_of_it():
    found = objective(shapes.table(2))
    assert found.unable(network(labels=["disc", "moon", "square"])) == ""
    assert found.unable(network(labels=["disc"])) == "it does not know 'square'"
    classifier = network(labels=["disc", "square"], backbone=Backbone("local", "x", uses=("classify",)))
    assert found.unable(classifier) == "it was not made to find boxes"
    assert Detect.load(json.loads(json.dumps(found.settings()))) == found


def test_a_batch_is_what_the_network_reads_and_boxes_go_back_where_they_were():
    table = shapes.table(3)
    found = objective(table)
    ready = network(labels=["disc", "square"])
    batch = found.examples(ready, table, 0).batch(np.array([2, 0]))
    assert batch["pixels"].shape == (2, 3, 96, 96)
    assert batch["counts"].tolist() == [2, 2]
    assert "sides" not in batch
    labels = [each["label"] for row in (2, 0) for each in table["boxes"][row]]
    assert [ready.labels[each] for each in batch["classes"]] == labels
    back = _back(batch["boxes"], (128, 64), LETTERBOX)
    told = [each["box"] for row in (2, 0) for each in table["boxes"][row]]
    assert np.abs(back - told).max() < 1e-3
    # The picture's own pixels are where its boxes are: the colour of each shape is at the middle of its box.
    for number, (left, top, right, bottom) in enumerate(batch["boxes"]):
        seen = batch["pixels"][number // 2, :, int((top + bottom) / 2), int((left + right) / 2)]
        assert np.abs(seen - shapes.COLOURS[labels[number]]).max() < 12


def test_pictures_of_several_sizes_stand_in_the_corner_of_what_they_share():
    one, other = shapes.drawn(0), shapes.drawn(1, 32, 8)
    table = {"image": [one[0], other[0]], "boxes": [one[1], other[1]]}
    free = network(preprocessing={"size": None, "scale": 1.0}, labels=[BACKGROUND, "disc", "square"])
    batch = objective(table).examples(free, table, 0).batch(np.array([0, 1]))
    assert batch["pixels"].shape == (2, 3, 64, 128)
    assert batch["sides"].tolist() == [[64, 128], [32, 64]]
    assert not batch["pixels"][1, :, 32:].any()
    assert np.array_equal(batch["boxes"][2:], np.array([each["box"] for each in other[1]], np.float32))
    assert sorted(batch["classes"].tolist()) == [1, 1, 2, 2]


def test_variation_is_the_same_for_the_same_seed_epoch_and_row():
    table = shapes.table(4)
    found, ready = objective(table), network(labels=["disc", "square"])
    first, second = (found.examples(ready, table, 3).batch(np.array([1, 2]), 5) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    alone = found.examples(ready, table, 3).batch(np.array([2]), 5)
    assert np.array_equal(alone["pixels"][0], first["pixels"][1])
    for seed, epoch in ((3, 6), (4, 5)):
        other = found.examples(ready, table, seed).batch(np.array([1, 2]), epoch)
        assert not np.array_equal(other["pixels"], first["pixels"])


def test_boxes_move_with_what_is_in_them():
    """However a picture is varied, each box that is kept still holds its shape, and nothing else of its colour."""
    table = shapes.table(40)
    found, ready = objective(table), network(labels=["disc", "square"])
    vary = _moved.Vary(light=0.0)
    seen = 0
    for epoch in range(5):
        batch = replace(found.examples(ready, table, 0), vary=vary).batch(np.arange(40), epoch)
        ends = np.cumsum(batch["counts"])
        for row, (end, count) in enumerate(zip(ends, batch["counts"], strict=True)):
            for at in range(end - count, end):
                colour = np.array(shapes.COLOURS[ready.labels[batch["classes"][at]]])
                inside = (np.abs(batch["pixels"][row] - colour[:, None, None]) < 60).all(0)
                rows, columns = np.nonzero(inside)
                shape = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert np.abs(batch["boxes"][at] - shape).max() < 2.5
                seen += 1
    assert 250 < seen <= 400


def test_what_is_hardly_seen_is_no_answer():
    picture = Image.new("RGB", (100, 100))
    boxes = np.array([[0, 0, 50, 100], [40, 0, 100, 100], [90, 90, 91, 91], [60, 60, 61, 90]], np.float64)
    part, moved = _moved.seen(picture, boxes, (50, 0, 150, 100))
    assert part.size == (100, 100)
    _, cut, kept = _moved.read(part, moved, {"size": [100, 100], "scale": 1.0})
    assert kept.tolist() == [1]
    assert cut.tolist() == [[0, 0, 50, 100]]


def test_moving_boxes_equals_torchvisions():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from torchvision import tv_tensors
    from torchvision.transforms.v2 import functional

    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 255, (60, 80, 3), dtype=np.uint8))
    corners = generator.uniform(0, 40, (9, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(6, 20, (9, 2))], 1)
    pixels = functional.pil_to_tensor(picture)
    theirs = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(60, 80))

    turned, moved = _moved.mirrored(picture, boxes)
    assert torch.equal(functional.pil_to_tensor(turned), functional.horizontal_flip(pixels))
    assert np.abs(moved - functional.horizontal_flip(theirs).numpy()).max() < 1e-9

    part, moved = _moved.seen(picture, boxes, (5, 7, 65, 52))
    assert torch.equal(functional.pil_to_tensor(part), functional.crop(pixels, 7, 5, 45, 60))
    # torchvision cuts boxes off as it crops; here they are cut when they are read.
    cut = functional.clamp_bounding_boxes(functional.crop(theirs, 7, 5, 45, 60)).numpy()
    assert np.abs(np.clip(moved, 0, [60, 45, 60, 45]) - cut).max() < 1e-9

    _, resized, kept = _moved.read(picture, boxes, {"size": [90, 40], "scale": 1.0})
    assert len(kept) == 9
    assert np.abs(resized - functional.resize(theirs, [90, 40]).numpy()).max() < 1e-4


def judged(truth, records):
    pytest.importorskip("pycocotools")
    table = {"image": [b""] * len(truth), "boxes": truth}
    return objective(table).judge([{"boxes": each} for each in records], table)


def test_perfect_boxes_are_1_and_none_are_0():
    truth = [[box("a", 0, 0, 10, 10), box("b", 20, 20, 50, 60)], [box("a", 5, 5, 90, 90)], []]
    found = judged(truth, [[each | {"score": 0.9} for each in row] for row in truth])
    assert (found["map"], found["map50"], found["map75"]) == (1, 1, 1)
    assert found["classes"] == [
        {"label": "a", "map": 1.0, "map50": 1.0, "boxes": 2},
        {"label": "b", "map": 1.0, "map50": 1.0, "boxes": 1},
    ]
    assert (found["pictures"], found["boxes"]) == (3, 3)
    assert Detect.primary in found
    nothing = judged(truth, [[], [], []])
    assert (nothing["map"], nothing["map50"]) == (0, 0)


def test_precision_is_what_can_be_worked_out_by_hand():
    # The best-scored answer is wrong and the second right: precision 1/2 at every recall.
    truth = [[box("a", 0, 0, 10, 10)]]
    found = judged(truth, [[box("a", 50, 50, 60, 60, score=0.9), box("a", 0, 0, 10, 10, score=0.8)]])
    assert found["map50"] == pytest.approx(0.5)
    # One of two is found: recalls up to .50, 51 of COCO's 101 points.
    found = judged([[box("a", 0, 0, 10, 10), box("a", 50, 50, 60, 60)]], [[box("a", 0, 0, 10, 10, score=0.9)]])
    assert found["map50"] == pytest.approx(51 / 101, abs=1e-6)
    # An overlap of 80 of 100 is right at .50 … .80, 7 of the 10 overlaps, and wrong at .85 … .95.
    found = judged(truth, [[box("a", 0, 0, 8, 10, score=0.9)]])
    assert found["map"] == pytest.approx(0.7)
    assert (found["map50"], found["map75"]) == (1, 1)
    # The second answer for the same thing is wrong, but comes after full recall.
    twice = judged(truth, [[box("a", 0, 0, 10, 10, score=0.9), box("a", 0, 0, 10, 9, score=0.8)]])
    assert twice["map50"] == 1


def test_labels_without_boxes_and_rows_that_nobody_marked_count_for_nothing():
    truth = [[box("a", 0, 0, 10, 10)], None, [box("flat", 3, 3, 3, 9), box("a", 1, 1, 5, 5)]]
    found = judged(truth, [[box("a", 0, 0, 10, 10, score=1.0), box("moon", 0, 0, 9, 9, score=1.0)],
                           [box("a", 0, 0, 10, 10, score=1.0)], [box("a", 1, 1, 5, 5, score=0.3)]])  # fmt: skip
    assert found["map"] == 1
    assert [each["label"] for each in found["classes"]] == ["a"]
    assert (found["pictures"], found["boxes"]) == (2, 2)


def test_boxes_are_of_the_upright_picture():
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste((200, 0, 0), (30, 0, 40, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned right when shown: what is right above is then right below.
    out = io.BytesIO()
    picture.save(out, "JPEG", exif=exif, quality=95, subsampling=0)
    table = {"image": [out.getvalue()], "boxes": [[box("red", 10, 30, 20, 40)]]}
    batch = objective(table).examples(network(preprocessing={"size": None, "scale": 1.0}, labels=["red"]), table, 0)
    found = batch.batch(np.array([0]))
    assert found["pixels"].shape == (1, 3, 40, 20)
    left, top, right, bottom = found["boxes"][0].astype(int)
    inside = found["pixels"][0, :, top + 1 : bottom - 1, left + 1 : right - 1]
    assert np.abs(inside - np.array([200, 0, 0])[:, None, None]).max() < 30
