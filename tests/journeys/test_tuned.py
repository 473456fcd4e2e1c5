"""Networks that were tuned answer alike where PyTorch is not installed, out of an adapter or out of the bundle."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest

import headstart as hs
from headstart.testing.courses import toy_texts
from headstart.testing.files import picture
from headstart.testing.networks import write_bert

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

ELSEWHERE = """
import sys
for name in ("torch", "torchvision", "timm", "transformers", "peft", "accelerate"):
    sys.modules[name] = None
from headstart.cli.main import main
sys.exit(main(["predict", sys.argv[1], sys.argv[2], "--json", "--offline"]))
"""


def predicted_elsewhere(bundle, cell, cache):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, bundle, cell],
        capture_output=True,
        text=True,
        env={**os.environ, "HEADSTART_CACHE": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number, text in enumerate(toy_texts(240)):
            writer.writerow([f"{text} {number}", "order" if {"order", "parcel"} & set(text.split()) else "other"])
    return path


@pytest.mark.parametrize("portable", [False, True])
def test_an_adapter_is_all_that_a_bundle_carries(tmp_path, table, portable):
    pytest.importorskip("peft")
    backbone = write_bert(tmp_path / "bert", width=64)
    model = hs.fit(
        table,
        target="label",
        backbone=f"local:{backbone}",
        method="lora",
        settings={"epochs": 2, "rate": 3e-3},
        portable=portable,
        out=tmp_path / "m",
    )
    carried = {each.name for each in (tmp_path / "m").rglob("*.safetensors")}
    assert carried == (
        {"heads.safetensors", "model.safetensors"} if portable else {"heads.safetensors", "adapter_model.safetensors"}
    )
    texts = ["where is my order", "password reset"]
    for text in texts:
        here = model.predict(text)
        there = predicted_elsewhere(tmp_path / "m", text, tmp_path / "other cache")
        found = there[0] if isinstance(there, list) else there
        assert found["label"] == here["label"]
        assert found["label_confidence"] == pytest.approx(here["label_confidence"], abs=1e-3)
    again = hs.open_model(tmp_path / "m")
    assert [again.predict(text) for text in texts] == [model.predict(text) for text in texts]
    if not portable:
        write_bert(backbone, width=64, seed=1)
        with pytest.raises(hs.HeadstartError, match="SHA-256 differs"):
            hs.open_model(tmp_path / "m")


def test_a_small_network_of_pictures_needs_no_torch(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), weights)
    for shape in ("square", "bar"):
        for seed in range(24):
            place = tmp_path / "photos" / shape / f"{seed}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture(seed, shape=shape).read())
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    model = hs.fit(
        tmp_path / "photos",
        target="label",
        backbone="torchvision:squeezenet1_1",
        weights=weights,
        method="own_network",
        settings={"epochs": 1},
        out=tmp_path / "m",
    )
    report = model.report
    assert report["backbone"]["reference"] == "own:resnet"
    photo = tmp_path / "photos/bar/3.png"
    there = predicted_elsewhere(tmp_path / "m", photo, tmp_path / "other cache")
    found = there[0] if isinstance(there, list) else there
    assert found["label"] == model.predict(str(photo))["label"]
