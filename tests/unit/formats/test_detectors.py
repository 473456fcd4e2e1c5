"""Detectors of torchvision and transformers: new classes, a classifier underneath, and their own training losses."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
Image = pytest.importorskip("PIL.Image")

from safetensors.torch import save_file  # noqa: E402

from headstart.core.backbone import Backbone, Network  # noqa: E402
from headstart.core.dataset import Dataset  # noqa: E402
from headstart.core.errors import HubError  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.objectives.detect import Detect  # noqa: E402
from tests.unit.objectives import shapes  # noqa: E402
from tests.unit.pipelines.test_detect import detector  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def table():
    """Return pictures of 128 x 64, and one of 96 x 96."""
    wide, (content, boxes) = shapes.table(3), shapes.drawn(0, side=48)
    square, out = Image.new("RGB", (96, 96), "white"), io.BytesIO()
    square.paste(Image.open(io.BytesIO(content)), (0, 0))
    square.save(out, "PNG")
    return {"image": [*wide["image"], out.getvalue()], "boxes": [*wide["boxes"], boxes]}


@pytest.fixture(scope="module")
def objective(table) -> Detect:
    return Detect.of(Dataset(table, {"image": ["image"]}), range(len(table["image"])), {})


def network(path: Path, architecture: str, **config) -> Network:
    return Network(
        folder=path.parent, architecture=architecture, weights=path, library="torchvision", use="detect",
        config={"min_size": 64, "max_size": 128, **config}, preprocessing={"size": None, "scale": 1 / 255},
        backbone=Backbone("torchvision", architecture, modality="image", uses=("detect",)),
    )  # fmt: skip


def opened(given):
    return Torch().open(given, "f32", 1).trainable()


def batch(objective, ready, table, epoch=None):
    arrays = objective.examples(ready, table, 0).batch(np.arange(len(table["image"])), epoch)
    return {name: torch.from_numpy(each) for name, each in arrays.items()}


def trained(built, given, steps: int, rate: float):
    """Return the losses of some steps, batch norms in inference mode."""
    built.module.train()
    for each in built.module.modules():
        if isinstance(each, torch.nn.modules.batchnorm._BatchNorm):
            each.eval()
    moving = torch.optim.AdamW([each for each in built.module.parameters() if each.requires_grad], lr=rate)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        moving.zero_grad()
        loss = built.loss(given)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(built.module.parameters(), 1.0)
        moving.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("architecture", "classes"),
    [
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 5),
        ("retinanet_resnet50_fpn", 4),
        ("fcos_resnet50_fpn", 4),
        ("ssdlite320_mobilenet_v3_large", 6),
    ],
)
def test_other_classes_get_new_layers_and_all_else_stays(architecture, classes, objective, table, tmp_path):
    torch.manual_seed(0)
    module = torchvision.models.get_model(architecture, weights=None, weights_backbone=None, num_classes=classes)
    save_file(module.state_dict(), tmp_path / "a.safetensors")
    config = {"min_size": 0, "max_size": 0} if architecture.startswith("ssd") else {}
    start = network(tmp_path / "a.safetensors", architecture, **config)
    # As it is, it has the classes that its weights are for.
    own = opened(start).module.state_dict()
    assert all(torch.equal(own[name], each) for name, each in module.state_dict().items())
    ready = replace(start, **objective.ready(start))
    built, again = opened(ready), opened(ready)
    new = built.module.state_dict()
    assert all(torch.equal(new[name], each) for name, each in again.module.state_dict().items())
    changed = {name for name in own if own[name].shape != new[name].shape}
    assert changed
    assert all("cls" in name or "class" in name or "bbox_pred" in name for name in changed)
    assert all(torch.equal(own[name], new[name]) for name in own.keys() - changed)
    built.module.train()
    loss = built.loss(batch(objective, ready, table))
    loss.backward()
    assert torch.isfinite(loss)
    # What was tuned opens as it is.
    save_file(new, tmp_path / "tuned.safetensors")
    tuned = replace(ready, weights=tmp_path / "tuned.safetensors")
    assert all(torch.equal(new[name], each) for name, each in opened(tuned).module.state_dict().items())


def test_the_loss_is_the_sum_of_the_networks_own(objective, table, tmp_path):
    torch.manual_seed(0)
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    module = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=128
    )  # fmt: skip
    save_file(module.state_dict(), tmp_path / "a.safetensors")
    start = network(tmp_path / "a.safetensors", name)
    ready = replace(start, **objective.ready(start))
    given = batch(objective, ready, table)
    assert given["sides"].tolist() == [[64, 128]] * 3 + [[96, 96]]
    pictures = [given["pixels"][row, :, :high, :wide] for row, (high, wide) in enumerate(given["sides"].tolist())]
    boxes, classes = given["boxes"].split(given["counts"].tolist()), given["classes"].split(given["counts"].tolist())
    targets = [{"boxes": each, "labels": own} for each, own in zip(boxes, classes, strict=True)]
    torch.manual_seed(7)
    theirs = sum(module.train()(pictures, targets).values())
    built = opened(ready)
    built.module.train()
    torch.manual_seed(7)
    assert built.loss(given).item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize(("architecture", "steps"), [("resnet18", 0), ("mobilenet_v2", 0), ("mobilenet_v3_small", 8)])
def test_a_detector_stands_on_a_classifier(architecture, steps, objective, table, tmp_path):
    torch.manual_seed(0)
    classifier = torchvision.models.get_model(architecture, weights=None)
    save_file(classifier.state_dict(), tmp_path / "a.safetensors")
    start = network(tmp_path / "a.safetensors", architecture)
    start = replace(start, backbone=replace(start.backbone, uses=("classify", "embed")))
    ready = replace(start, **objective.ready(start))
    built = opened(ready)
    own, old = built.module.state_dict(), classifier.state_dict()
    first = next(name for name in old if name.endswith("weight"))
    inside = f"backbone.body.{first.removeprefix('features.')}"
    assert torch.equal(own[inside], old[first])
    if steps:
        losses = trained(built, batch(objective, ready, table), steps, 2e-3)
        assert min(losses[-3:]) < 0.8 * losses[0]
    save_file(built.module.state_dict(), tmp_path / "tuned.safetensors")
    tuned = opened(replace(ready, weights=tmp_path / "tuned.safetensors"))
    assert torch.equal(tuned.module.state_dict()[inside], built.module.state_dict()[inside])
    found = (
        Torch()
        .open(replace(ready, weights=tmp_path / "tuned.safetensors"), "f32", 1)
        .run({"pixels": np.zeros((1, 3, 64, 128), np.float32)})
    )
    assert found["boxes"].shape == (int(found["counts"][0]), 4)


def test_what_no_detector_stands_on_is_said(objective, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    for architecture, told in (("vgg11", "No detector is built on 'vgg11'"), ("resnet18", "do not fit 'resnet18'")):
        start = network(tmp_path / "a.safetensors", architecture)
        start = replace(start, backbone=replace(start.backbone, uses=("classify", "embed")))
        with pytest.raises(HubError, match=told):
            opened(replace(start, **objective.ready(start)))


@pytest.mark.parametrize("kind", ["detr", "yolos", "rt_detr"])
def test_transformers_learn_other_classes_by_their_own_loss(kind, objective, table, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model, processor = detector(transformers, kind)
    model.config.id2label = {number: str(number) for number in range(5)}
    type(model)(model.config).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    start = Local().fetch(Backbone.parse(f"local:{tmp_path}"), Quiet())
    ready = replace(start, **objective.ready(start))
    assert len(start.labels) == 5
    assert ready.labels == ["disc", "square"]
    built, again = opened(ready), opened(ready)
    assert built.module.config.num_labels == 2
    pairs = zip(built.module.state_dict().values(), again.module.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    given = batch(objective, ready, table)
    assert ("sides" in given) == (kind == "detr")
    losses = trained(built, given, 25, 5e-3)
    assert min(losses[-3:]) < 0.9 * losses[0]
    # Written in the folder's own layout, it opens with its new classes and the same numbers.
    built.module.eval().save_pretrained(tmp_path)
    tuned = Torch().open(replace(ready, weights=tmp_path / "model.safetensors"), "f32", 1)
    for name, each in tuned.trainable().module.state_dict().items():
        assert torch.equal(each, built.module.state_dict()[name])


def test_boxes_of_padded_pictures_are_shares_of_the_picture_itself(objective, table, tmp_path):
    """A picture that shares `pixels` with a larger one is learnt from as it is when it stands alone."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model, processor = detector(transformers, "detr")
    model.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    start = Local().fetch(Backbone.parse(f"local:{tmp_path}"), Quiet())
    built = opened(replace(start, **objective.ready(start), preprocessing={"size": None, "scale": 1 / 255}))
    seen = []
    built.module.forward = lambda **given: seen.append(given) or model(given["pixel_values"], labels=given["labels"])
    arrays = objective.examples(replace(start, labels=objective.labels, preprocessing={"size": None}), table, 0)
    for rows in ([3], [0, 3]):
        built.masked = True
        built.loss({name: torch.from_numpy(each) for name, each in arrays.batch(np.array(rows)).items()})
    alone, together = seen
    assert torch.equal(alone["labels"][0]["boxes"], together["labels"][1]["boxes"])
    assert float(alone["labels"][0]["boxes"].max()) <= 1
    assert together["pixel_mask"].shape == (2, 96, 128)
    assert together["pixel_mask"].sum((1, 2)).tolist() == [64 * 128, 96 * 96]
    assert not together["pixel_mask"][0, 64:].any()
