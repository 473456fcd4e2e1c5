"""A network that writes is made smaller, judged by its perplexity, and answers from its bundle without PyTorch."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from headstart.core.bundle import Bundle
from headstart.stages.fit import fit
from headstart.stages.model import open_model
from tests.unit.pipelines import toys

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("nncf")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, PyTorch runs it"),
]
THINGS = "order parcel refund invoice password umbrella king daughter letter tower".split()  # noqa: SIM905
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from headstart.stages.model import open_model
print(open_model(sys.argv[1]).predict("order?", max_tokens=6, temperature=0)["text"])
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a network that was taught a few answers: wide enough that reading its weights is what takes time."""
    folder = tmp_path_factory.mktemp("writers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=toys.bytes_(folder / "gpt2"), n_positions=64, n_embd=768, n_layer=2, n_head=4, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder / "gpt2")
    with (folder / "faq.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [[f"{each}? {number}", f"the {each}"] for each in THINGS for number in range(3)]
        csv.writer(file).writerows([["question", "answer"], *rows])
    settings = {"epochs": 2, "rate": 3e-4, "batch": 8}
    return fit(
        folder / "faq.csv", task="generate", backbone=f"local:{folder / 'gpt2'}", settings=settings,
        out=folder / "model",
    )  # fmt: skip


def test_narrow_weights_are_faster_and_kept(written, headstart, tmp_path):
    told = headstart("compress", written.path, "--max-drop", 90, "--out", tmp_path / "small", "--json")
    assert told.code == 0
    found = told.json
    trials = {each["name"]: each for each in found["trials"]}
    assert {"as it is", "int8", "f16", "int4"} <= trials.keys()
    whole = trials["as it is"]
    assert whole["accuracy"]["generate"]["value"] == pytest.approx(written.report["metrics"]["perplexity"], rel=1e-3)
    for name in ("int8", "int4"):
        each = trials[name]
        assert each["unit"] == "per cent" and each["size"] < 0.5 * whole["size"]
        ratio = each["accuracy"]["generate"]["value"] / whole["accuracy"]["generate"]["value"]
        assert each["drop"]["generate"]["points"] == pytest.approx(100 * (ratio - 1), abs=1e-6)
        assert each["pace"]["latency"] > 1
    assert trials["int8"]["drop"]["generate"]["bound"] < 20
    assert found["chosen"] and "perplexity" in found["verdict"]
    bundle = Bundle.open(tmp_path / "small")
    report = bundle.json("report.json")
    assert report["metrics"]["perplexity"] == trials[found["chosen"]]["accuracy"]["generate"]["value"]
    assert "Smaller forms" in (tmp_path / "small" / "report.html").read_text(encoding="utf-8")
    again = open_model(tmp_path / "small")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "small")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = again.predict("order?", max_tokens=6, temperature=0)["text"]
    assert (ran.returncode, ran.stdout[:-1]) == (0, answer), ran.stderr


def test_the_table_says_what_is_lost(written, headstart, tmp_path):
    told = headstart("compress", written.path, "--precision", "int8", "--max-drop", 0, "--out", tmp_path / "none")
    assert told.code == 0 and "perplexity" in told.out and "per cent lost" in told.out
    assert "Nothing is kept" in told.out and not Path(tmp_path / "none").exists()
