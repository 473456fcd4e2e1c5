"""Boxes: overlaps dropped, put back onto the picture, named, drawn."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.core.arrays import Session
from headstart.core.backbone import Backbone, Network
from headstart.core.errors import DataError, UsageError
from headstart.core.progress import Quiet

Image = pytest.importorskip("PIL.Image")

from headstart.hubs.local import Local  # noqa: E402
from headstart.pipelines import detect  # noqa: E402

SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).parents[4] / "shared")) / "weights"


class Fixed(Session):
    """A network that always finds the same."""

    def __init__(self, boxes, scores, classes) -> None:
        self.found = {
            "boxes": np.array(boxes, np.float32).reshape(-1, 4), "scores": np.array(scores, np.float32),
            "classes": np.array(classes, np.int64), "counts": np.array([len(scores)]),
        }  # fmt: skip

    def run(self, arrays):
        self.seen = arrays["pixels"].shape
        return self.found


def network(overlap=None, labels=("cat", "dog", "N/A"), **preprocessing) -> Network:
    return Network(
        folder=Path(), architecture="x", weights=Path(), config={"overlap": overlap}, labels=labels, use="detect",
        backbone=Backbone("local", "x", modality="image", uses=("detect",)), preprocessing=preprocessing,
    )  # fmt: skip


def content(width: int, height: int) -> bytes:
    to = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(to, "PNG")
    return to.getvalue()


def found(given: Network, session: Session, size, threshold: float = 0.5):
    pipeline = detect.Detect()
    options = pipeline.settle({"threshold": threshold})
    return pipeline.run(given, session, [content(*size)], options)[0]["boxes"]


def test_boxes_go_back_to_the_pictures_own_pixels():
    session = Fixed([[10, 20, 30, 50]], [0.9], [1])
    settings = {"size": [100, 100], "pad": 114, "align": "centre"}
    (box,) = found(network(**settings), session, (400, 200))
    assert session.seen == (1, 3, 100, 100)
    # 400 x 200 becomes 100 x 50, with 25 rows above it.
    assert box == {"label": "dog", "score": 0.9, "box": [40, 0, 120, 100]}
    (box,) = found(network(size=[100, 100]), session, (400, 200))
    assert box["box"] == [40, 40, 120, 100]
    (box,) = found(network(size=50, crop=[50, 50]), session, (400, 200))
    assert box["box"] == [140, 80, 220, 200]
    (box,) = found(network(), session, (25, 35))
    assert box["box"] == [10, 20, 25, 35]


def test_what_stands_for_nothing_or_scores_low_is_left_out():
    session = Fixed([[0, 0, 1, 1]] * 4, [0.9, 0.6, 0.8, 0.4], [2, 0, 7, 1])
    assert [each["label"] for each in found(network(), session, (10, 10))] == ["7", "cat"]
    assert [each["label"] for each in found(network(), session, (10, 10), 0.4)] == ["7", "cat", "dog"]
    with pytest.raises(UsageError, match=r"threshold is 1\.5"):
        found(network(), session, (10, 10), 1.5)


def test_overlaps_of_one_class_are_dropped():
    session = Fixed(
        [[0, 0, 10, 10], [1, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10]], [0.7, 0.9, 0.8, 0.6], [0, 0, 1, 0]
    )
    kept = [(each["label"], each["score"]) for each in found(network(0.5), session, (40, 40))]
    assert kept == [("cat", 0.9), ("dog", 0.8), ("cat", 0.6)]
    assert len(found(network(), session, (40, 40))) == 4


def test_dropping_overlaps_equals_torchvisions():
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 80, (300, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(1, 40, (300, 2))], 1).astype(np.float32)
    scores, classes = generator.permutation(300).astype(np.float32), generator.integers(0, 3, 300)
    ours = detect.distinct(boxes, scores, classes, 0.3)
    theirs = ops.batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(classes), 0.3)
    assert 10 < len(ours) < 300
    assert ours.tolist() == theirs.tolist()


def test_drawn_pictures_and_tables(tmp_path):
    pipeline, record = detect.Detect(), {"boxes": [{"label": "dog", "score": 0.9, "box": [20, 30, 80, 90]}]}
    assert pipeline.write([record], [content(100, 100)], tmp_path / "out.png")
    drawn = np.asarray(Image.open(tmp_path / "out.png").convert("RGB")).astype(int)
    assert drawn.shape == (100, 100, 3)
    assert (drawn[60, 20] != 255).any()
    assert (drawn[50:55, 50:55] == 255).all()
    assert not pipeline.write([record], [content(100, 100)], tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="2 pictures"):
        pipeline.write([record] * 2, [content(9, 9)] * 2, tmp_path / "out.png")
    assert "dog" in pipeline.show(record)
    assert "threshold" in pipeline.show({"boxes": []})


def test_a_broken_picture_is_named():
    with pytest.raises(DataError, match="not a picture"):
        detect.Detect().run(network(), Fixed([], [], []), [b"no picture"], {"threshold": 0.5})


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_yolox_finds_the_dog_the_bicycle_and_the_car(engine):
    path = SHARED / "yolox_nano" / "yolox_nano.onnx"
    if not path.is_file():
        pytest.skip("the real weights are not on this machine")
    from headstart import formats

    given = replace(Local().fetch(Backbone.parse(f"local:{path}"), Quiet()), use="detect")
    assert given.backbone.uses == ("detect",)
    session = formats.registry.get(engine)().open(given, "f32", 1)
    picture = (SHARED / "photos" / "dog.jpg").read_bytes()
    boxes = detect.Detect().run(given, session, [picture], {"threshold": 0.5})[0]["boxes"]
    assert {each["label"] for each in boxes} == {"dog", "bicycle", "car"}
    best = {each["label"]: each for each in boxes}
    assert abs(best["dog"]["score"] - 0.85) < 0.03
    left, top, right, bottom = best["dog"]["box"]
    assert (abs(left - 132) < 8, abs(top - 208) < 12, abs(right - 325) < 12, abs(bottom - 543) < 12) == (True,) * 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "engine"),
    # With random weights RT-DETR picks its queries among scores that a rounding changes: it stays with PyTorch.
    [("detr", "torch"), ("yolos", "torch"), ("rt_detr", "torch"), ("detr", "openvino"), ("yolos", "openvino")],
)
def test_transformers_detectors_equal_their_own_post_processing(kind, engine, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from headstart.stages.networks import start

    torch.manual_seed(0)
    model, processor = detector(transformers, kind)
    model.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    given = replace(Local().fetch(Backbone.parse(f"local:{tmp_path}"), Quiet()), use="detect")
    noise = np.random.default_rng(0).integers(0, 255, (50, 90, 3)).astype(np.uint8)
    to = io.BytesIO()
    Image.fromarray(noise).save(to, "PNG")
    session = start(given, engine, 1).session
    ours = detect.Detect().run(given, session, [to.getvalue()], {"threshold": 0.2})[0]["boxes"]
    with torch.no_grad():
        out = model(**processor(images=Image.fromarray(noise), return_tensors="pt"))
    own = processor.post_process_object_detection(out, threshold=0.2, target_sizes=[(50, 90)])[0]
    order = own["scores"].argsort(descending=True, stable=True)
    assert len(ours) == len(order) > 0
    assert np.allclose([each["score"] for each in ours], own["scores"][order], atol=1e-4)
    names = [model.config.id2label[int(each)] for each in own["labels"][order]]
    assert [each["label"] for each in ours] == names
    theirs = own["boxes"][order].clamp(min=0).minimum(torch.tensor([90.0, 50, 90, 50])).numpy()
    assert np.abs(np.array([each["box"] for each in ours]) - theirs).max() < 0.05


def detector(transformers, kind: str):
    """Return a small random detector and its processor, of Pillow, so that pixels are the same."""
    labels = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 9}
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    if kind == "yolos":
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        config = transformers.YolosConfig(image_size=[64, 96], patch_size=16, num_detection_tokens=9, **sizes, **labels)
        processor = transformers.YolosImageProcessorPil(size={"height": 64, "width": 96}, do_pad=False)
        return transformers.YolosForObjectDetection(config), processor
    if kind == "detr":
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        config = transformers.DetrConfig(backbone_config=backbone, d_model=16, **heads, **small, **labels)
        processor = transformers.DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 110}, do_pad=False)
        return transformers.DetrForObjectDetection(config), processor
    staged = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.RTDetrConfig(
        backbone_config=staged, encoder_hidden_dim=16, d_model=16, encoder_in_channels=[8, 16, 16], num_queries=9,
        decoder_in_channels=[16, 16, 16], encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2,
        decoder_attention_heads=2, decoder_layers=1, anchor_image_size=None, num_denoising=0, **labels,
    )  # fmt: skip
    processor = transformers.RTDetrImageProcessorPil(size={"height": 64, "width": 64})
    return transformers.RTDetrForObjectDetection(config), processor
