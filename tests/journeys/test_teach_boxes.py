"""A YOLOX is taught to find other things, on a table of pictures, and answers from its bundle without PyTorch."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from headstart.stages.compress import compress
from headstart.stages.fit import fit
from headstart.stages.model import open_model
from tests.unit.objectives import shapes

pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pycocotools")
SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).parents[3] / "shared")) / "weights"
GRAPH = SHARED / "yolox_nano" / "yolox_nano.onnx"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GRAPH.is_file(), reason="needs ../shared"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SETTINGS = {"epochs": 12, "batch": 2, "rate": 2e-3, "average": 0.0}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    made = shapes.table(24)
    with (folder / "shapes.jsonl").open("w", encoding="utf-8") as file:
        for number, (picture, boxes) in enumerate(zip(made["image"], made["boxes"], strict=True)):
            (folder / f"{number}.png").write_bytes(picture)
            file.write(json.dumps({"image": f"{number}.png", "boxes": boxes}) + "\n")
    # A smaller input than the graph's own: weights of convolutions do not depend on it.
    shutil.copyfile(GRAPH, folder / "yolox.onnx")
    (folder / "preprocessing.json").write_text(json.dumps({"size": [96, 96]}), encoding="utf-8")
    return fit(
        folder / "shapes.jsonl", task="detect", backbone=f"local:{folder / 'yolox.onnx'}", settings=SETTINGS,
        out=folder / "model",
    )  # fmt: skip


def test_the_report_has_coco_s_measures(taught):
    report = taught.report
    assert (report["task"], report["primary"]) == ("detect", "map")
    assert report["metrics"]["map50"] > 0.7
    assert report["metrics"]["map50"] >= report["metrics"]["map"]
    assert {each["label"] for each in report["metrics"]["classes"]} == {"disc", "square"}
    assert "does not know 'disc', 'square'" in report["not_before"]


def test_a_bundle_answers_without_pytorch(taught, headstart, tmp_path):
    told = json.loads((taught.path / "backbones.json").read_text(encoding="utf-8"))["image"]
    assert (told["format"], told["library"], told["labels"]) == ("openvino", "yolox", ["disc", "square"])
    shutil.copytree(taught.path, tmp_path / "moved")
    content, boxes = shapes.drawn(1000)
    (tmp_path / "new.png").write_bytes(content)
    found = open_model(tmp_path / "moved").predict(tmp_path / "new.png", threshold=0.1)["boxes"]
    best = {each["label"]: each["box"] for each in reversed(found)}
    assert best.keys() == {"disc", "square"}
    for each in boxes:
        assert max(abs(one - other) for one, other in zip(best[each["label"]], each["box"], strict=True)) < 12
    told = headstart("predict", tmp_path / "moved", tmp_path / "new.png", "--threshold", 0.1, "--json")
    assert told.code == 0
    assert told.json["boxes"] == found


def test_eight_bits_are_judged_by_the_same_measure(taught, tmp_path):
    pytest.importorskip("nncf")
    found = compress(taught.path, precision=["int8"], max_drop=100, out=tmp_path / "small")
    whole, small = found["trials"]
    assert (found["task"], small["name"], small["unit"]) == ("detect", "int8", "points")
    assert whole["accuracy"]["detect"]["value"] == pytest.approx(taught.report["metrics"]["map"])
    lost = whole["accuracy"]["detect"]["value"] - small["accuracy"]["detect"]["value"]
    assert small["drop"]["detect"]["points"] == pytest.approx(100 * lost)
    assert small["drop"]["detect"]["bound"] > small["drop"]["detect"]["points"]
    assert small["size"] < whole["size"]
    assert (tmp_path / "small").exists() == bool(found["chosen"])
