"""Fit takes the engine that is fastest here, says why, and the bundle remembers it."""

from __future__ import annotations

import numpy as np
import pytest

import headstart as hs
from headstart.core.bundle import Bundle
from headstart.core.errors import BundleError
from headstart.core.files import read_json, write_json
from headstart.stages.fit import fit
from headstart.testing.networks import WORDS, write_bert

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
KINDS = ("parcel", "refund")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    network = write_bert(folder / "bert", width=64, layers=3)
    rng = np.random.default_rng(0)
    others = [word for word in WORDS if word not in KINDS]
    lines = [f"{' '.join([*rng.choice(others, 9), KINDS[number % 2]])},{KINDS[number % 2]}" for number in range(80)]
    (folder / "texts.csv").write_text("\n".join(["body,label", *lines]), encoding="utf-8")
    settings = {"target": "label", "input": "body", "method": "probe", "curve": "off"}
    fit(folder / "texts.csv", backbone=f"local:{network}", out=folder / "model", **settings)
    return folder / "model"


def test_the_bundle_says_which_engine_was_taken_and_why(place):
    spec = Bundle.open(place).json("backbones.json")["text"]
    assert "openvino f32: " in spec["why"] and "onnx f32: " in spec["why"] and "rows/s" in spec["why"]
    assert spec["format"] in ("openvino", "onnx")
    assert spec["machine"]
    assert "Engines, as measured" in (place / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_a_bundle_is_opened_with_the_engine_that_it_names_and_answers_alike(place, tmp_path, name):
    expected = hs.open_model(place).predict("where is my parcel")
    copied = Bundle.open(place).copy(tmp_path / "copy").path
    specs = read_json(copied / "backbones.json", BundleError)
    specs["text"]["format"] = name
    with Bundle.create(tmp_path / "made") as part:
        for file in Bundle.open(copied).manifest["files"]:
            (part / file).write_bytes((copied / file).read_bytes())
        write_json(part / "backbones.json", specs)
    model = hs.open_model(tmp_path / "made")
    assert type(model.runtime.sessions["text"]).__module__.endswith(
        {"openvino": "openvino", "onnx": "_bert_onnx"}[name]
    )
    answer = model.predict("where is my parcel")
    assert answer["label"] == expected["label"]
    assert answer["label_confidence"] == pytest.approx(expected["label_confidence"], abs=0.01)
