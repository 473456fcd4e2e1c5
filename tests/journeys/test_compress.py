"""Compress: smaller forms of a fitted model are tried, and one is written only where it is faster and as good."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import headstart as hs
from headstart.core.bundle import Bundle
from headstart.core.errors import UsageError
from headstart.stages.compress import compress
from headstart.stages.fit import fit
from headstart.testing.networks import WORDS, write_bert

KINDS = {"parcel": "shipping", "refund": "money", "password": "account"}


TRAINS = all(importlib.util.find_spec(each) for each in ("torch", "accelerate", "transformers"))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of texts and a bundle fitted on it, whose encoder has many layers."""
    return fitted(tmp_path_factory.mktemp("deep"), width=128, layers=12)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of texts and a bundle fitted on it, whose encoder has many feed-forward channels."""
    return fitted(tmp_path_factory.mktemp("wide"), width=128, layers=6, channels=1024)


def fitted(folder: Path, **sizes: int) -> Path:
    network = write_bert(folder / "bert", **sizes)
    rng = np.random.default_rng(0)
    others = [word for word in WORDS if word not in KINDS]
    with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["body", "label"])
        for number in range(400):
            word = list(KINDS)[number % 3]
            words = [*rng.choice(others, rng.integers(6, 14)), word]
            writer.writerow([f"{' '.join(rng.permutation(words))}", KINDS[word]])
    fit(
        folder / "texts.csv",
        target="label",
        input="body",
        backbone=f"local:{network}",
        method="probe",
        curve="off",
        out=folder / "model",
    )
    return folder


def test_fewer_layers_are_faster_and_are_written_where_they_answer_as_well(headstart, deep, tmp_path):
    out = tmp_path / "small"
    told = headstart("compress", deep / "model", "--layers", "2", "--max-drop", 60, "--out", out, "--json", "--quiet")
    assert told.code == 0, told.err
    found = told.json
    whole, small = found["trials"]
    assert found["chosen"] == small["name"] == "2 layers"
    assert small["pace"]["throughput"] > 1.5
    assert small["size"] < whole["size"]
    assert small["drop"]["label"]["bound"] >= small["drop"]["label"]["points"]
    assert small["memory"] > 10_000_000
    bundle = Bundle.open(out)
    assert bundle.json("compress.json")["chosen"] == "2 layers"
    assert bundle.json("backbones.json")["text"]["portable"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Smaller forms" in page and "What does speed cost?" in page
    model = hs.open_model(out)
    assert model.predict("where is my parcel")["label"] in KINDS.values()
    assert model.report["targets"]["label"]["accuracy"] == small["accuracy"]["label"]["value"]


def test_fewer_channels_are_faster_and_are_written_where_they_answer_as_well(headstart, wide, tmp_path):
    out = tmp_path / "small"
    told = headstart(
        "compress", wide / "model", "--prune", "0.9375", "--max-drop", 60, "--out", out, "--json", "--quiet"
    )
    assert told.code == 0, told.err
    found = told.json
    whole, small = found["trials"]
    assert found["chosen"] == small["name"] == "pruned 93.75 %"
    assert small["pace"]["throughput"] > 1
    assert small["size"] < 0.5 * whole["size"]
    assert small["accuracy"]["label"]["value"] > 0.8
    spec = Bundle.open(out).json("backbones.json")["text"]
    assert spec["portable"] and spec["config"]["intermediate_size"] == 64
    assert json.loads((out / "backbone/text/config.json").read_text(encoding="utf-8"))["intermediate_size"] == 64
    assert "pruned 93.75 %" in (out / "report.html").read_text(encoding="utf-8")
    assert hs.open_model(out).predict("where is my parcel")["label"] in KINDS.values()


def test_weights_set_to_zero_are_told_for_their_size_and_never_kept(wide, tmp_path):
    found = compress(wide / "model", zero=[0.5], max_drop=100, out=tmp_path / "small")
    half = found["trials"][1]
    assert half["name"] == "50 % of weights zero" and not half["kept"] and not found["chosen"]
    assert half["accuracy"]["label"]["value"] > 0.5 and half["speed"]
    after, before = (float(each) for each in re.findall(r"([0-9.]+)(?: MB|;)", half["why"]))
    assert "zipped" in half["why"] and after < 0.8 * before
    assert not (tmp_path / "small").exists()


def test_shares_numbers_and_times_that_are_none_are_told(headstart, wide):
    for option, value, allowed in (
        ("--prune", "1.5", "between 0 and 1"),
        ("--prune", "0.5,half", "between 0 and 1"),
        ("--prune", "0", "between 0 and 1"),
        ("--prune", "nan", "between 0 and 1"),
        ("--zero", "1", "between 0 and 1"),
        ("--distill", "0.5", "Whole numbers"),
        ("--budget", "soon", "10m"),
    ):
        told = headstart("compress", wide / "model", option, value, "--quiet", "--json")
        assert told.code == 2
        assert allowed in json.loads(told.out)["error"]["allowed"]
    with pytest.raises(UsageError, match="--budget is -1"):
        compress(wide / "model", prune=[0.5], budget=-1)


def test_a_share_that_leaves_no_channel_is_told_and_the_others_are_tried(wide, tmp_path):
    found = compress(wide / "model", prune=[0.999, 0.5], max_drop=100, out=tmp_path / "small")
    none, half = found["trials"][1:]
    assert "of 1024 feed-forward channels cannot be left out" in none["why"]
    assert half["speed"]


def test_training_that_cannot_be_done_is_told_and_the_form_without_it_is_tried(wide, tmp_path):
    found = compress(wide / "model", prune=[0.5], distill=[1], budget=0.01, out=tmp_path / "small")
    trials = {each["name"]: each for each in found["trials"]}
    assert trials["pruned 50 %"]["speed"]
    reason = "One epoch takes about" if TRAINS else "is not installed"
    for name in ("pruned 50 %, trained", "distilled to 1 layers"):
        assert reason in trials[name]["why"], trials[name]
        assert not trials[name]["speed"]


@pytest.mark.slow
@pytest.mark.skipif(not TRAINS, reason="PyTorch is not installed; `make test-all` installs it")
def test_what_is_trained_is_judged_like_all_other_forms(wide, tmp_path):
    found = compress(wide / "model", prune=[0.9375], distill=[1], budget=60, max_drop=100, out=tmp_path / "small")
    trials = {each["name"]: each for each in found["trials"]}
    assert list(trials) == ["as it is", "pruned 93.75 %", "pruned 93.75 %, trained", "distilled to 1 layers"]
    for each in list(trials.values())[1:]:
        assert each["drop"]["label"]["bound"] >= each["drop"]["label"]["points"]
        assert each["size"] < trials["as it is"]["size"]
    assert trials["distilled to 1 layers"]["accuracy"]["label"]["value"] > 0.8
    assert found["chosen"]
    assert hs.open_model(tmp_path / "small").predict("where is my parcel")["label"] in KINDS.values()


def test_nothing_is_written_where_nothing_wins(headstart, deep, tmp_path):
    out = tmp_path / "small"
    told = headstart("compress", deep / "model", "--precision", "f16", "--max-drop", 0, "--out", out, "--quiet")
    assert told.code == 0
    assert "Nothing is kept" in told.out
    assert not out.exists()
    assert not list(deep.glob("*compressed*"))


def test_dimensions_are_projected_and_the_heads_fitted_again(deep, tmp_path):
    found = compress(deep / "model", dims=[16], max_drop=100, out=tmp_path / "small")
    (trial,) = found["trials"][1:]
    assert trial["accuracy"]["label"]["value"] > 0.6
    assert trial["size"] <= found["trials"][0]["size"]


def test_a_form_that_cannot_be_made_is_told_and_the_others_are_tried(deep, tmp_path):
    found = compress(deep / "model", precision=["openvino f64"], layers=[12], out=tmp_path / "small")
    reasons = {each["name"]: each["why"] for each in found["trials"]}
    assert "does not run" in reasons["openvino f64"]
    assert "1 to 11" in reasons["12 layers"] or "--layers is 12" in reasons["12 layers"]


def test_rows_that_have_changed_are_not_judged_on(headstart, deep, tmp_path):
    lines = (deep / "texts.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "texts.csv").write_text("\n".join([lines[0], *lines[2:]]), encoding="utf-8")
    told = headstart("compress", deep / "model", "--layers", 2, "--source", tmp_path / "texts.csv", "--quiet")
    assert told.code == 3
    assert "holds other rows now" in told.err and "--test" in told.err


def test_a_table_of_its_own_to_judge_on(deep, tmp_path):
    gone = tmp_path / "gone.csv"
    test = tmp_path / "test.csv"
    rows = [f"where is my {word} thanks {number},{label}" for number in range(20) for word, label in KINDS.items()]
    test.write_text("\n".join(["body,label", *rows]), encoding="utf-8")
    found = compress(deep / "model", layers=[2], precision=["f16"], source=gone, test=test, out=tmp_path / "small")
    assert found["rows"] == 60
    reasons = {each["name"]: each["why"] for each in found["trials"]}
    assert "training rows" in reasons["2 layers"]
    assert (found["trials"][1]["agreement"] or 0) > 0.9, reasons


def test_few_rows_to_judge_on_are_refused(headstart, deep, tmp_path):
    test = tmp_path / "test.csv"
    test.write_text("body,label\nwhere is my parcel,shipping\n", encoding="utf-8")
    told = headstart("compress", deep / "model", "--test", test, "--quiet", "--json")
    assert told.code == 2
    assert "At least 20" in json.loads(told.out)["error"]["allowed"]


@pytest.mark.slow
def test_eight_bits_travel_in_the_bundle_and_need_nothing_else(deep, tmp_path):
    pytest.importorskip("nncf")
    from headstart.core.progress import Quiet
    from headstart.core.recipe import Recipe
    from headstart.core.source import ReadOptions
    from headstart.stages.compress import _whole
    from headstart.stages.ground import ground
    from headstart.stages.smaller import Workshop
    from headstart.stages.trials import save_variant

    model = hs.open_model(deep / "model")
    recipe = Recipe.from_toml(model.path / "recipe.toml")
    rows = ground(model, recipe, None, None, ReadOptions(), Quiet())
    shop = Workshop(_whole(model, Quiet()), rows, recipe, tmp_path / "work", model.path)
    save_variant(tmp_path / "int8", shop, shop.in_form("int8"), dict(model.report))
    spec = Bundle.open(tmp_path / "int8").json("backbones.json")["text"]
    assert spec["file"] == "int8.xml" and spec["precision"] == "int8"
    assert (tmp_path / "int8/backbone/text/int8.bin").is_file()
    assert hs.open_model(tmp_path / "int8").predict("where is my parcel thanks")["label"] in KINDS.values()
