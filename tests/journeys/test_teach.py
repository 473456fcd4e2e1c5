"""Networks that are taught their own answers: fit, predict, evaluate, moved elsewhere, cut off and gone on with."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headstart.core.errors import BundleError, DataError, ResourceError, UsageError
from headstart.stages.benchmark import benchmark
from headstart.stages.evaluate import evaluate
from headstart.stages.fit import fit
from headstart.stages.model import open_model
from headstart.stages.predict import predict
from headstart.stages.pretrained import Pretrained, pretrained
from headstart.testing.files import recording
from tests.unit.objectives import shapes
from tests.unit.pipelines import sounds, toys

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
THINGS = "order parcel refund invoice password umbrella king daughter letter tower".split()  # noqa: SIM905


def faq(path: Path, things=THINGS) -> Path:
    """Write a table of questions and answers."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows([[f"{each}?", f"the {each}"] for each in things for _ in range(2)])
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return faq(tmp_path_factory.mktemp("faq") / "faq.csv")


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return toys.llama(tmp_path_factory.mktemp("networks") / "llama")


SETTINGS = {"epochs": 2, "rate": 3e-3, "batch": 4}


@pytest.fixture(scope="module")
def written(table, writer, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "faq"
    return fit(table, task="generate", backbone=f"local:{writer}", settings=SETTINGS, out=out)


class TestWriting:
    def test_the_report_says_what_tuning_has_changed(self, written):
        report = written.report
        assert isinstance(written, Pretrained) and written.task == "generate"
        assert (report["kind"], report["task"], report["primary"]) == ("fit", "generate", "perplexity")
        assert report["metrics"]["perplexity"] < report["before"]["perplexity"]
        assert report["gain"] == pytest.approx(report["before"]["perplexity"] - report["metrics"]["perplexity"])
        low, high = report["metrics"]["perplexity_ci"]
        assert low <= report["metrics"]["perplexity"] <= high
        assert low < high and report["gain_ci"][0] > 0 and "_drawn" not in report["metrics"]
        assert report["verdict"].startswith("Tuning helped: perplexity ") and "→" in report["verdict"]
        assert report["data"]["train_rows"] + report["data"]["test_rows"] == report["data"]["rows"] == 20
        assert report["trained"]["epochs"] and [each["name"] for each in report["ladder"]][1] == "finetune"
        page = (written.path / "report.html").read_text(encoding="utf-8")
        assert "perplexity" in page and "as it was" in page

    def test_a_bundle_moved_elsewhere_answers_as_before(self, written, writer, tmp_path, monkeypatch):
        before = written.predict("order?", max_tokens=6, temperature=0)
        moved = tmp_path / "elsewhere"
        shutil.copytree(written.path, moved)
        monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "empty"))
        gone = writer.with_name("gone")
        writer.rename(gone)
        try:
            again = open_model(moved)
        finally:
            gone.rename(writer)
        assert isinstance(again, Pretrained) and again.predict("order?", max_tokens=6, temperature=0) == before
        # What was learnt was learnt with the chat template, which is used unasked.
        assert again.predict([{"role": "user", "content": "order?"}], max_tokens=6, temperature=0) == before
        assert again.predict("order?", max_tokens=6, temperature=0, chat=False) != before

    def test_the_command_line_answers_judges_shows_and_pushes(self, headstart, written, table, tmp_path):
        told = headstart("predict", written.path, "order?", "--max-tokens", 6, "--temperature", 0, "--json")
        assert told.code == 0 and told.json == written.predict("order?", max_tokens=6, temperature=0)
        told = headstart("predict", written.path, table, "--max-tokens", 3, "-o", tmp_path / "out.csv")
        assert told.code == 0 and len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) > 20
        told = headstart("evaluate", written.path, table, "--json", "--out", tmp_path / "judged")
        assert told.code == 0 and told.json["rows"] == 20
        assert told.json["metrics"]["perplexity"] == evaluate(written, table)["metrics"]["perplexity"]
        assert json.loads((tmp_path / "judged/report.json").read_text())["task"] == "generate"
        told = headstart("show", written.path, "--json")
        assert told.json["targets"] == {"answer": {"task": "generate", "labels": None}}
        assert told.json["backbones"]["text"]["portable"] is True
        assert headstart("push", written.path, tmp_path / "pushed").code == 0
        assert open_model(tmp_path / "pushed").task == "generate"

    def test_what_does_not_work_says_what_does(self, headstart, written):
        for more in (["--task", "detect"], ["--weights", "x.pt"]):
            told = headstart("predict", written.path, "x", *more)
            assert told.code == 2 and "Traceback" not in told.err and "headstart:" in told.err

    def test_the_python_verbs_take_it(self, written, table, tmp_path):
        assert predict(written.path, table, out=tmp_path / "answers.jsonl") == 20
        assert evaluate(written.path, table) == written.evaluate(table)
        assert repr(written) == f"Pretrained({str(written.path)!r}, task='generate')"

    def test_how_fast_it_is(self, headstart, written, writer):
        told = headstart("benchmark", written.path, "--batch", "1,2", "--json", "--quiet")
        assert told.code == 0, told.err
        sizes = [each["size"] for each in told.json["latency"]]
        # 128 words are more than it reads.
        assert sizes == ["8 words", "8 words", "32 words", "32 words"][: len(sizes)] and sizes
        assert told.json["networks"]["text"]["engine"].endswith("f32") and told.json["network"] == []
        as_it_is = benchmark(pretrained(f"local:{writer}", task="generate"), batches=[1], span=0.01)
        assert as_it_is["bundle"] == f"local:{writer}" and as_it_is["latency"]

    def test_its_own_recipe_makes_the_same_weights(self, headstart, written, table, tmp_path):
        told = headstart("fit", table, "--recipe", written.path / "recipe.toml", "--out", tmp_path / "again", "--json")
        assert told.code == 0
        assert told.json["backbone"]["checksum"] == written.report["backbone"]["checksum"]

    def test_a_table_is_read_as_it_was_learnt_from(self, written, tmp_path):
        rows = tmp_path / "rows.csv"
        rows.write_text("text,question\nnothing at all is asked here,order?\n", encoding="utf-8")
        assert predict(written, rows, out=tmp_path / "answers.jsonl") == 1
        answer = json.loads((tmp_path / "answers.jsonl").read_text(encoding="utf-8"))
        assert answer["text_given"].startswith("nothing") and answer["question"] == "order?"

    def test_a_damaged_bundle_is_refused(self, written, tmp_path):
        shutil.copytree(written.path, tmp_path / "torn")
        (tmp_path / "torn/pipeline.json").write_text("{}", encoding="utf-8")
        with pytest.raises(BundleError, match="damaged"):
            open_model(tmp_path / "torn")


def running(environment, *arguments):
    command = [sys.executable, "-m", "headstart", "fit", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_killed_fit_goes_on_and_ends_with_the_same_weights(written, table, writer, tmp_path):
    folder = tmp_path / "cache"
    environment = os.environ | {"HEADSTART_CACHE": str(folder), "OMP_NUM_THREADS": "1"}
    given = [table, "--task", "generate", "--backbone", f"local:{writer}", "--out", tmp_path / "model"]
    given += [each for name, value in SETTINGS.items() for each in ("--set", f"{name}={value}")]
    process = running(environment, *given)
    try:
        until = time.monotonic() + 120
        while not list(folder.glob("runs/*/checkpoint/state.json")) and time.monotonic() < until:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "model").exists()
    again = running(environment, *given, "--resume")
    said = again.communicate(timeout=240)[0].decode()
    assert again.returncode == 0 and "goes on after step" in said, said
    made = json.loads((tmp_path / "model/backbones.json").read_text())["text"]["checksum"]
    assert made == written.report["backbone"]["checksum"]
    assert not list(folder.glob("runs/*")), "what was kept for going on is gone"


class TestLadder:
    def test_with_a_budget_rungs_are_climbed_and_kept_where_they_win(self, table, writer, tmp_path):
        model = fit(
            table, task="generate", backbone=f"local:{writer}", settings=SETTINGS, budget=240, out=tmp_path / "m"
        )
        ladder = {each["name"]: each for each in model.report["ladder"]}
        assert list(ladder) == ["as it is", "finetune, frozen half", "finetune", "lora"]
        assert ladder["as it is"]["kept"] and ladder["finetune, frozen half"]["kept"]
        scores = {name: each["score"] for name, each in ladder.items() if each["score"] is not None}
        assert scores["finetune, frozen half"] < scores["as it is"]  # perplexity
        for name in ("finetune, frozen half", "finetune"):
            assert ladder[name]["gain"] is not None and "±" in ladder[name]["why"]
        last = [name for name, each in ladder.items() if each["kept"]][-1]
        assert model.report["method"] == last.partition(",")[0]
        assert model.report["metrics"]["perplexity"] < model.report["before"]["perplexity"]

    def test_where_nothing_wins_the_network_stays_as_it_is(self, table, writer, tmp_path):
        model = fit(
            table, task="generate", backbone=f"local:{writer}", settings={"epochs": 1, "rate": 1e-12},
            budget=240, out=tmp_path / "m",
        )  # fmt: skip
        assert model.report["method"] == "as it is"
        assert [each["name"] for each in model.report["ladder"] if each["kept"]] == ["as it is"]
        assert model.report["gain"] == pytest.approx(0, abs=1e-3)
        assert "helped" not in model.report["verdict"]
        assert open_model(tmp_path / "m").predict("order?", max_tokens=3, temperature=0)["tokens"] == 3


class TestHearing:
    @pytest.fixture(scope="class")
    def recordings(self, tmp_path_factory):
        pytest.importorskip("soundfile")
        pytest.importorskip("soxr")
        pytest.importorskip("jiwer")
        folder = tmp_path_factory.mktemp("sounds")
        with (folder / "said.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["audio", "transcript"])
            for number in range(16):
                name, high = f"{number}.wav", number % 2
                (folder / name).write_bytes(recording(number, pitch=1200 if high else 250, rate=16_000).read())
                writer.writerow([name, "wow" if high else "gym"])
            (folder / "torn.wav").write_bytes(b"RIFF")
            writer.writerow(["torn.wav", "wow"])
            writer.writerow(["0.wav", ""])
        return folder / "said.csv"

    def test_a_network_learns_letters_of_its_own(self, headstart, recordings, tmp_path):
        folder = sounds.write_wav2vec2(tmp_path / "w2v", apply_spec_augment=False, layerdrop=0.0)
        out = tmp_path / "model"
        told = headstart(
            "fit", recordings, "--task", "transcribe", "--backbone", f"local:{folder}", "--out", out, "--json",
            "--set", "epochs=2", "--set", "rate=0.003",
        )  # fmt: skip
        assert told.code == 0, told.err
        report = told.json
        assert report["data"]["rows"] == 16 and "2 rows are left out" in report["data"]["warnings"][0]
        assert report["metrics"]["wer"] >= 0 and "wer_ci" in report["metrics"]
        shutil.rmtree(folder)
        answer = headstart("predict", out, recordings.parent / "0.wav", "--json")
        assert answer.code == 0 and set(answer.json["text"]) <= set("wogym ")
        judged = headstart("evaluate", out, recordings, "--json")
        assert judged.code == 0 and judged.json["rows"] == 16
        assert Pretrained is type(open_model(out))
        timed = benchmark(out, batches=[1], span=0.01)
        assert [each["size"] for each in timed["latency"]] == ["1 s of sound", "10 s of sound"]
        assert all(0 < each["share"] < 1.5 for each in timed["network"])

    def test_a_network_without_weights_learns_from_nothing(self, recordings, tmp_path):
        made = fit(
            recordings, task="transcribe", backbone="builtin:ctc-small", settings={"epochs": 1}, out=tmp_path / "ctc"
        )
        assert made.report["method"] == "finetune, from random weights"
        assert made.report["before"] is None and "Nothing to compare with" in made.report["verdict"]
        assert isinstance(made.predict(str(recordings.parent / "1.wav"))["text"], str)


class TestSeeing:
    @pytest.fixture(scope="class")
    def pictures(self, tmp_path_factory):
        pytest.importorskip("PIL")
        pytest.importorskip("pycocotools")
        folder = tmp_path_factory.mktemp("pictures")
        images, marks = [], []
        for number in range(16):
            part = "train" if number < 10 else "val" if number < 13 else "test"
            (folder / part).mkdir(exist_ok=True)
            name = f"{part}/{number}.png"
            content, boxes = shapes.drawn(number, side=64)
            (folder / name).write_bytes(content)
            images.append({"id": number, "file_name": name, "width": 128, "height": 64})
            for each in boxes:
                left, top, right, bottom = each["box"]
                marks.append(
                    {
                        "id": len(marks),
                        "image_id": number,
                        "category_id": 1 + (each["label"] == "disc"),
                        "bbox": [left, top, right - left, bottom - top],
                    }
                )
        kinds = [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
        told = {"images": images, "annotations": marks, "categories": kinds}
        (folder / "marked.json").write_text(json.dumps(told), encoding="utf-8")
        return folder / "marked.json"

    def test_a_detector_on_a_classifier_in_the_datas_own_parts(self, headstart, pictures, tmp_path):
        torchvision = pytest.importorskip("torchvision")
        weights = tmp_path / "small.pth"
        torch.save(torchvision.models.get_model("mobilenet_v3_small", weights=None).state_dict(), weights)
        out = tmp_path / "model"
        told = headstart(
            "fit", pictures, "--task", "detect", "--backbone", "torchvision:mobilenet_v3_small", "--weights", weights,
            "--set", "epochs=1", "--set", "batch=4", "--out", out, "--json",
        )  # fmt: skip
        assert told.code == 0, told.err
        report = told.json
        assert report["data"]["test_rows"] == 3 and report["data"]["held_rows"] == 3
        assert report["data"]["test_origin"] == "the data's own test rows"
        assert 0 <= report["metrics"]["map50"] <= 1 and len(report["metrics"]["map_ci"]) == 2
        assert "it was not made to find boxes" in report["not_before"]
        answer = headstart("predict", out, pictures.parent / "test/15.png", "--threshold", 0, "--json")
        assert answer.code == 0 and {each["label"] for each in answer.json["boxes"]} <= {"square", "disc"}
        judged = headstart("evaluate", out, pictures, "--json")
        assert judged.code == 0 and judged.json["rows"] == 16


def test_words_are_filled_in_and_judged_on_another_table(table, tmp_path):
    folder = toys.bert(tmp_path / "bert", "BertForMaskedLM")
    test = faq(tmp_path / "test.csv", ["order", "ship", "harbour"])
    made = fit(
        table, task="fill_mask", input="question", backbone=f"local:{folder}", settings={"epochs": 1, "words": "whole"},
        out=tmp_path / "model", test=test,
    )  # fmt: skip
    data = made.report["data"]
    assert (data["rows"], data["test_rows"], data["test_origin"]) == (26, 6, str(test))
    assert "2 of the 6 test rows have a near twin" in " ".join(data["warnings"])
    assert made.report["primary"] == "pseudo_perplexity" and made.report["metrics"]["tokens"] > 0
    assert made.predict("the [MASK]?")["top"]
    assert made.evaluate(table)["metrics"]["tokens"] > made.report["metrics"]["tokens"]


class TestRefused:
    def fitted(self, table, writer, out, **more):
        return fit(table, **{"task": "generate", "backbone": f"local:{writer}", "out": out, **more})

    def test_unknown_tasks_methods_and_settings(self, table, writer, tmp_path):
        with pytest.raises(UsageError, match=r"There is no task 'generat'.*Did you mean 'generate'"):
            self.fitted(table, writer, tmp_path / "x", task="generat")
        with pytest.raises(UsageError, match=r"'probe' leaves the network as it is.*finetune"):
            self.fitted(table, writer, tmp_path / "x", method="probe")
        with pytest.raises(UsageError, match="epoch"):
            self.fitted(table, writer, tmp_path / "x", settings={"epoch": 3})
        with pytest.raises(UsageError, match="names 2 columns"):
            self.fitted(table, writer, tmp_path / "x", input=["question", "answer"])
        assert not (tmp_path / "x").exists()

    def test_data_without_answers(self, table, writer, tmp_path):
        with pytest.raises(DataError, match="There is no column 'reply'"):
            self.fitted(table, writer, tmp_path / "x", target="reply")
        with pytest.raises(DataError, match="has 8 usable rows"):
            self.fitted(faq(tmp_path / "few.csv", THINGS[:4]), writer, tmp_path / "x")
        (tmp_path / "blank.csv").write_text("question,answer\n" + "why?,\n" * 12, encoding="utf-8")
        with pytest.raises(DataError, match="There is no answer"):
            self.fitted(tmp_path / "blank.csv", writer, tmp_path / "x")
        with pytest.raises(DataError, match="No row is left"):
            self.fitted(faq(tmp_path / "same.csv", ["order"] * 10), writer, tmp_path / "x")

    def test_a_budget_that_has_no_room_for_an_epoch(self, table, writer, tmp_path):
        with pytest.raises(ResourceError, match=r"budget"):
            self.fitted(table, writer, tmp_path / "x", budget=0.01)
        assert not (tmp_path / "x").exists()

    def test_a_network_that_cannot(self, table, writer, tmp_path):
        with pytest.raises(UsageError, match="Which network is to learn to generate"):
            self.fitted(table, writer, tmp_path / "x", backbone="auto")
        with pytest.raises(UsageError, match="cannot fill mask"):
            self.fitted(table, writer, tmp_path / "x", task="fill_mask", input="question")

    def test_one_as_it_is_is_not_judged_without_answers(self, table, writer):
        from headstart.stages.pretrained import pretrained

        with pytest.raises(UsageError, match="was not fitted"):
            pretrained(f"local:{writer}").evaluate(table)
