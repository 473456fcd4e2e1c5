"""Networks that are taught vectors by pairs of texts: fit, predict, evaluate, and a backbone of what comes next."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest

from headstart.core.bundle import Bundle
from headstart.core.errors import DataError, HubError, UsageError
from headstart.core.progress import Quiet
from headstart.stages.compress import compress
from headstart.stages.fit import fit
from headstart.stages.networks import fetch
from headstart.testing.courses import toy_texts
from headstart.testing.networks import WORDS, write_bert

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
OTHER = dict(zip(WORDS, [*WORDS[7:], *WORDS[:7]], strict=True))
"""Another language: each word has its own counterpart."""
SETTINGS = {"epochs": 12, "rate": 3e-3, "decay": 1.0, "batch": 32, "patience": 12}


def written(path, rows, head=("question", "answer")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def short_texts(rows=280):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 4), replace=False)) for _ in range(rows)]


def translated(text):
    return " ".join(OTHER[each] for each in text.split())


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return written(tmp_path_factory.mktemp("pairs") / "pairs.csv", [(each, translated(each)) for each in short_texts()])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return f"local:{write_bert(tmp_path_factory.mktemp('networks') / 'bert')}"


@pytest.fixture(scope="module")
def model(table, bert, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "pairs"
    return fit(table, task="embed", backbone=bert, settings=SETTINGS, out=out)


def test_pairs_come_together(model, table):
    report = model.report
    assert (report["task"], report["primary"]) == ("embed", "mrr")
    assert report["metrics"]["mrr"] > report["before"]["mrr"] and report["gain_ci"][1] > 0
    losses = [each["loss"] for each in report["trained"]["epochs"]]
    assert losses[-1] < 0.9 * losses[0]
    assert report["metrics"]["recall_1"] <= report["metrics"]["mrr"] <= 1
    assert report["metrics"]["answers"] <= report["rows"]
    assert ": mean reciprocal rank " in report["verdict"] and "→" in report["verdict"]
    assert report["speed"]["latency_ms"]["p50"] > 0
    page = (model.path / "report.html").read_text(encoding="utf-8")
    assert "recall@10" in page and "as it was" in page
    assert 'pipeline_tag: "sentence-similarity"' in (model.path / "README.md").read_text(encoding="utf-8")
    judged = model.evaluate(table)
    assert judged["metrics"]["answers"] > report["metrics"]["answers"] and judged["metrics"]["mrr"] > 0


def test_the_bundle_gives_vectors_without_pytorch(model, headstart, tmp_path):
    text = toy_texts(1, seed=5)[0]
    right, wrong = (model.predict(each)["embedding"] for each in (translated(text), toy_texts(1, seed=6)[0]))
    asked = model.predict(text)["embedding"]
    assert np.corrcoef(asked, right)[0, 1] > np.corrcoef(asked, wrong)[0, 1]
    told = headstart("predict", model.path, text, "--json")
    assert told.code == 0 and np.allclose(told.json["embedding"], asked, atol=1e-5)
    assert headstart("predict", model.path, written(tmp_path / "new.csv", [(text,)], ("question",)), "-o",
                     tmp_path / "new.npy").code == 0  # fmt: skip
    assert np.allclose(np.load(tmp_path / "new.npy")[0], asked, atol=1e-5)
    code = (
        "import sys; sys.modules['torch'] = None; import headstart as hs; "
        f"print(hs.open_model({str(model.path)!r}).predict({text!r})['embedding'][0])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(found.stdout) == pytest.approx(asked[0], abs=1e-5)


def test_a_bundle_is_a_backbone(model, bert, tmp_path):
    reference = f"local:{model.path}"
    network = fetch(reference, "", Quiet())
    assert network.backbone.reference == reference and network.use == "embed"
    assert network.backbone.checksum != fetch(bert, "", Quiet()).backbone.checksum
    rows = [(each, "order" if "order" in each.split() else "other") for each in toy_texts(120)]
    labels = written(tmp_path / "labels.csv", rows, ("text", "label"))
    made = fit(labels, target="label", backbone=reference, method="probe", out=tmp_path / "probe")
    assert made.report["backbone"]["reference"] == reference
    assert made.predict("my order")["label"] in ("order", "other")
    again = fit(labels, target="label", backbone=f"local:{tmp_path / 'probe'}", method="probe", out=tmp_path / "again")
    assert again.report["backbone"]["checksum"] == network.backbone.checksum
    with pytest.raises(HubError, match="differs"):
        fetch(reference, "0" * 64, Quiet())
    plain = fit(labels, target="label", method="scratch", backbone="none", out=tmp_path / "scratch")
    with pytest.raises(HubError, match="model of no networks"):
        fetch(f"local:{plain.path}", "", Quiet())


def test_low_rank_and_grades(bert, tmp_path):
    rng = np.random.default_rng(0)
    texts = toy_texts()
    drawn = rng.random(len(texts))
    rows = [
        (each, " ".join(word if rng.random() < share else rng.choice(WORDS) for word in each.split()), f"{share:.2f}")
        for each, share in zip(texts, drawn, strict=True)
    ]
    table = written(tmp_path / "graded.csv", rows, ("sentence1", "sentence2", "score"))
    made = fit(table, task="embed", backbone=bert, method="lora", settings=SETTINGS, out=tmp_path / "graded")
    assert made.report["primary"] == "spearman" and made.report["trained"]["adapter"]["layers"] > 0
    assert made.report["metrics"]["spearman"] >= made.report["before"]["spearman"] - 0.05
    assert Bundle.open(made.path).json("pipeline.json")["settings"]["grade"] == "score"


def test_pictures_have_no_pairs(table, tmp_path):
    torchvision = pytest.importorskip("torchvision")
    weights = tmp_path / "small.pth"
    torch.save(torchvision.models.get_model("mobilenet_v3_small", weights=None).state_dict(), weights)
    with pytest.raises(UsageError, match="reads image"):
        fit(table, task="embed", backbone="torchvision:mobilenet_v3_small", weights=weights, out=tmp_path / "x")


def test_smaller_forms_are_judged_by_the_same_measure(model, table, tmp_path):
    pytest.importorskip("nncf")
    found = compress(model.path, precision=["int8", "f16"], max_drop=100, out=tmp_path / "small")
    whole, eight, small = found["trials"]
    assert eight["accuracy"] and eight["drop"]["embed"]["bound"] < 50
    key = model.report["primary"]
    assert whole["accuracy"]["embed"]["value"] == pytest.approx(model.report["metrics"][key])
    assert small["accuracy"]["embed"]["metric"] == key and whole["size"] > 0 < small["size"]
    assert small["drop"]["embed"]["points"] <= small["drop"]["embed"]["bound"]
    with pytest.raises(UsageError, match="--prune"):
        compress(model.path, prune=[0.5])
    (_, unknown) = compress(model.path, precision=["nothing f32"], out=tmp_path / "none")["trials"]
    assert unknown["why"].startswith("not tried: ") and "nothing" in unknown["why"]
    # Without the rows that it learnt from, only what needs none is tried.
    away = table.rename(table.with_name("away.csv"))
    try:
        with pytest.raises(DataError, match="cannot be used"):
            compress(model.path, precision=["f16"])
        found = compress(model.path, precision=["int8", "f16"], test=away, max_drop=100, out=tmp_path / "other")
    finally:
        away.rename(table)
    trials = {each["name"]: each for each in found["trials"]}
    assert trials["int8"]["why"].startswith("not tried: This needs training rows")
    assert trials["f16"]["accuracy"]
