"""Fit, evaluate, predict, show: one table of tickets, from the shell and from Python."""

from __future__ import annotations

import io
import json
import shutil
import sys

import pytest

import headstart as hs
from headstart.core.bundle import Bundle

TICKET = "My order #12345 has not arrived yet."


def test_fit_prints_one_json_document_with_the_promised_keys(headstart, table, tmp_path):
    told = headstart(
        "fit", table, "--target", "department", "--input", "subject,body", "--out", tmp_path / "m", "--json"
    )
    assert told.code == 0, told.err
    report = told.json
    assert {"bundle", "backbone", "method", "seconds", "verdict", "rows", "targets"} <= set(report)
    department = report["targets"]["department"]
    for key in ("accuracy", "macro_f1", "ece", "automation_rate"):
        assert 0 <= department[key] <= 1
        assert department[f"{key}_ci"][0] <= department[key] <= department[f"{key}_ci"][1]
    assert department["baselines"]["majority"]["accuracy"] < department["accuracy"]
    assert "accuracy" in department["baselines"]["scratch"]
    assert report["backbone"]["reference"].startswith("builtin:all-MiniLM-L6-v2")


def test_the_embeddings_of_a_second_fit_come_from_the_cache(headstart, table, tmp_path):
    told = headstart("fit", table, "--target", "priority", "--input", "subject,body", "--out", tmp_path / "m")
    assert told.code == 0
    assert "embedded 0 texts; 240 of 240 were known already" in told.err


def test_a_second_fit_gives_the_same_model(bundle, table, tmp_path):
    again = hs.fit(table, target=["department", "priority"], input=["subject", "body"], out=tmp_path / "again")
    first = Bundle.open(bundle).manifest["files"]
    assert Bundle.open(again.path).manifest["files"]["heads.safetensors"] == first["heads.safetensors"]


def test_predict_answers_a_text(headstart, bundle):
    answer = headstart("predict", bundle, TICKET, "--json", "--quiet").json
    assert answer["department"] == "Shipping & Delivery"
    assert answer["priority"] == "High"
    assert 0 < answer["department_confidence"] <= 1
    assert set(answer) == {
        f"{target}{part}"
        for target in ("department", "priority")
        for part in ("", "_confidence", "_automated", "_unknown")
    }


def test_predict_answers_a_row_as_json_and_lines_of_standard_input(headstart, bundle, monkeypatch):
    row = json.dumps({"subject": "Where is it", "body": TICKET})
    alone = headstart("predict", bundle, row, "--json", "--quiet").json
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{TICKET}\n\n{row}\n"))
    told = headstart("predict", bundle, "-", "--quiet")
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert len(lines) == 2
    assert lines[1] == alone


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".tsv", ".arrow"])
def test_predict_writes_a_table_in_any_format_and_reads_it_back(headstart, bundle, table, tmp_path, suffix):
    out = tmp_path / f"answers{suffix}"
    told = headstart("predict", bundle, table, "-o", out, "--json", "--quiet")
    assert told.json == {"rows": 240, "out": str(out)}
    judged = headstart("evaluate", bundle, out, "--json", "--quiet")
    assert judged.code == 0, judged.err


def test_predict_writes_into_a_database(headstart, bundle, table, tmp_path):
    url = f"sqlite:///{tmp_path / 'answers.db'}::answers"
    assert headstart("predict", bundle, table, "-o", url, "--quiet").code == 0
    again = headstart("fit", url, "--target", "department", "--input", "body", "--out", tmp_path / "m", "--quiet")
    assert again.code == 0, again.err


def test_one_row_a_batch_and_a_file_get_the_same_answers(bundle, rows, tmp_path):
    model = hs.open_model(bundle)
    some = [{"subject": row["subject"], "body": row["body"]} for row in rows[240:300]]
    together = model.predict(some)
    for row, answer in zip(some, together, strict=True):
        alone = model.predict(row)
        for name, value in answer.items():
            # The order of additions differs with the shape of a batch, which shows in the fourth decimal.
            assert alone[name] == (pytest.approx(value, abs=2e-3) if name.endswith("_confidence") else value)


def test_evaluate_judges_new_rows_and_writes_a_report(headstart, bundle, rows, tmp_path):
    from tests.journeys.conftest import write

    fresh = write(tmp_path / "new.csv", rows[240:400])
    told = headstart("evaluate", bundle, fresh, "--json", "--quiet", "--out", tmp_path / "judged")
    report = told.json
    assert report["rows"] == 160
    for target in ("department", "priority"):
        judged = report["targets"][target]
        assert judged["accuracy"] > judged["baselines"]["majority"]["accuracy"]
        assert {"accuracy_ci", "macro_f1", "ece", "automation_rate", "automation_precision"} <= set(judged)
    assert "<html" in (tmp_path / "judged" / "report.html").read_text(encoding="utf-8")


def test_show_needs_no_network_to_be_opened(headstart, bundle):
    shown = headstart("show", bundle, "--json").json
    assert shown["inputs"] == {"text": ["subject", "body"]}
    assert set(shown["targets"]) == {"department", "priority"}
    assert shown["heads_bytes"] < 5_000_000


def test_a_portable_bundle_moves_between_machines(headstart, table, tmp_path, monkeypatch):
    out = tmp_path / "m"
    told = headstart(
        "fit", table, "--target", "department", "--input", "subject,body", "--out", out, "--portable", "--quiet"
    )
    assert told.code == 0, told.err
    answer = headstart("predict", out, TICKET, "--json", "--quiet").json
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(out, moved)
    shutil.rmtree(out)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "empty"))
    assert headstart("predict", moved, TICKET, "--json", "--quiet").json == answer
    assert not any(
        str(tmp_path) in file.read_text("utf-8") for file in moved.glob("*.json") if file.name != "report.json"
    )


def test_fit_infers_targets_inputs_and_tasks_and_says_so(headstart, rows, tmp_path):
    from tests.journeys.conftest import write

    told = headstart("fit", write(tmp_path / "t.csv", rows[:120]), "--target", "priority", "--out", tmp_path / "m")
    assert told.code == 0, told.err
    assert "not used: 'id'" in told.err
    assert "inputs: 'subject', 'body' (text)" in told.err


def test_models_lists_the_built_in_encoder(headstart):
    assert headstart("models", "minilm", "--json").json[0]["reference"] == "builtin:all-MiniLM-L6-v2"
    assert headstart("models", "nothing-like-it", "--json").json == []


def test_a_frame_goes_in_and_records_come_out(table, tmp_path):
    import pandas

    frame = pandas.read_csv(table)
    model = hs.fit(frame, target="department", input="body", out=tmp_path / "m", method="scratch")
    assert len(model.predict(frame[["body"]].head(3))) == 3
    assert model.predict(["late parcel", "refund please"])[0]["department"] in set(frame["department"])


def test_a_recipe_fits_the_same_model_again(headstart, bundle, table, tmp_path):
    again = headstart("fit", table, "--recipe", bundle / "recipe.toml", "--out", tmp_path / "m", "--json", "--quiet")
    assert again.code == 0, again.err
    assert again.json["recipe"]["target"] == ["department", "priority"]
    other = headstart("fit", table, "--recipe", bundle / "recipe.toml", "--target", "priority", "--method", "scratch",
                      "--out", tmp_path / "n", "--json", "--quiet")  # fmt: skip
    assert list(other.json["targets"]) == ["priority"]
    assert other.json["method"] == "scratch"


def test_the_scikit_learn_estimator_in_a_pipeline(rows):
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import Pipeline

    from headstart.sklearn import HeadstartClassifier

    texts, labels = [row["body"] for row in rows[:160]], [row["department"] for row in rows[:160]]
    pipeline = Pipeline([("headstart", HeadstartClassifier())])
    scores = cross_val_score(pipeline, texts, labels, cv=2)
    assert scores.mean() > 0.6
    fitted = pipeline.fit(texts, labels)
    assert fitted.predict_proba(texts[:3]).sum(axis=1) == pytest.approx([1, 1, 1])
    assert fitted.named_steps["headstart"].automated(texts).shape == (160,)
