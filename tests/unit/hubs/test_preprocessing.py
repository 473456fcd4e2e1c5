"""What we read out of a repository's preprocessing does to pictures what the hub's own library does."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
timm_data = pytest.importorskip("timm.data")
pictures = pytest.importorskip("PIL.Image")

from headstart.hubs import _images  # noqa: E402
from headstart.hubs._transformers import preprocessor_of  # noqa: E402
from headstart.modalities import _pixels  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PROCESSORS = {
    "ViTImageProcessor": {"size": {"height": 96, "width": 96}},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 96}, "crop_pct": 0.875},
    "BitImageProcessor": {"size": {"shortest_edge": 110}, "crop_size": {"height": 96, "width": 96}},
    "CLIPImageProcessor": {"size": {"shortest_edge": 96}, "crop_size": {"height": 96, "width": 96}},
    "MobileNetV2ImageProcessor": {"size": {"shortest_edge": 120}, "crop_size": {"height": 96, "width": 96}},
    "DetrImageProcessor": {"size": {"shortest_edge": 90, "longest_edge": 120}, "do_pad": False},
}
CONFIGS = {
    "center": {"input_size": (3, 96, 96), "crop_pct": 0.875, "interpolation": "bicubic"},
    "whole": {"input_size": (3, 96, 96), "crop_pct": 1.0, "interpolation": "bilinear"},
    "squash": {"input_size": (3, 96, 96), "crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "squash"},
}


@pytest.fixture(params=[(200, 130), (121, 333)], ids=["wide", "tall"])
def picture(request):
    width, height = request.param
    rng = np.random.default_rng(0)
    small = pictures.fromarray(rng.integers(0, 255, (12, 17, 3), dtype=np.uint8).astype(np.uint8))
    return small.resize((width, height), pictures.Resampling.BICUBIC)


@pytest.mark.parametrize("name", PROCESSORS)
def test_of_transformers(name, picture, tmp_path):
    theirs = getattr(transformers, name)(**PROCESSORS[name])
    theirs.save_pretrained(tmp_path)
    told = preprocessor_of(tmp_path)
    assert told
    ours = _pixels.pixels([picture], _images.of_transformers(told))
    expected = theirs(images=picture, return_tensors="np")["pixel_values"]
    assert ours.shape == expected.shape
    # Theirs resizes with torch and rounds to whole numbers another way than Pillow does: 1/255 here and there.
    assert np.abs(ours - expected).mean() < 0.01
    assert np.abs(ours - expected).max() < 0.15


@pytest.mark.parametrize("mode", CONFIGS)
def test_of_timm(mode, picture):
    config = {**CONFIGS[mode], "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
    ours = _pixels.pixels([picture], _images.of_timm(json.loads(json.dumps(config))))
    expected = timm_data.create_transform(**timm_data.resolve_data_config(config))(picture).numpy()[None]
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 1e-5
