"""Each kind of bad input gets a sentence and a non-zero exit code, and loses nothing that was there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headstart.core.bundle import MANIFEST
from tests.journeys.conftest import write


@pytest.fixture
def refused(headstart):
    """Return a function that runs a command, checks that it failed without a traceback, and returns what it said."""

    def run(*arguments):
        told = headstart(*arguments)
        assert told.code not in (0, None)
        assert "Traceback" not in told.err
        assert "This is a bug" not in told.err
        assert told.err.startswith("headstart: ") or "\nheadstart: " in told.err
        return told.err

    return run


def few(rows, count=60):
    """Return a small table of two columns."""
    return [{"text": row["body"], "label": row["department"]} for row in rows[:count]]


def test_a_mistyped_option_suggests_the_nearest(refused):
    assert "Did you mean '--port'" in refused("serve", "models/any", "--prot", "8000")
    assert "'headstart fit' does not take --targett" in refused("fit", "--targett", "x")
    assert "See: headstart fit --help" in refused("fit", "a.csv", "b.csv")


def test_a_missing_file(refused, tmp_path):
    (tmp_path / "tickets.csv").write_text("a,b\n")
    said = refused("fit", tmp_path / "tickts.csv", "--target", "label")
    assert "tickts.csv" in said
    assert "tickets.csv" in said


def test_a_directory_without_texts(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("fit", tmp_path / "empty", "--target", "label")


def test_an_empty_file(refused, tmp_path):
    (tmp_path / "t.csv").write_bytes(b"")
    assert "empty" in refused("fit", tmp_path / "t.csv", "--target", "label")


def test_a_header_without_rows(refused, tmp_path):
    (tmp_path / "t.csv").write_text("text,label\n")
    refused("fit", tmp_path / "t.csv", "--target", "label", "--out", tmp_path / "m")


def test_one_class_only(refused, rows, tmp_path):
    table = write(tmp_path / "t.csv", [{**row, "label": "same"} for row in few(rows)])
    assert "only one class" in refused("fit", table, "--target", "label", "--input", "text", "--out", tmp_path / "m")


def test_a_class_with_one_row_is_left_out_and_named(headstart, rows, tmp_path):
    some = few(rows)
    some[0]["label"] = "Lonely"
    told = headstart("fit", write(tmp_path / "t.csv", some), "--target", "label", "--out", tmp_path / "m", "--json")
    assert told.code == 0, told.err
    assert any("'Lonely'" in warning for warning in told.json["data"]["warnings"])
    shown = headstart("show", tmp_path / "m", "--json").json
    assert "Lonely" not in shown["targets"]["label"]["labels"]


def test_every_class_with_one_row(refused, rows, tmp_path):
    some = [{"text": row["body"], "label": f"only {number}"} for number, row in enumerate(rows[:40])]
    refused("fit", write(tmp_path / "t.csv", some), "--target", "label", "--input", "text", "--out", tmp_path / "m")


def test_a_target_that_does_not_exist_suggests_the_nearest(refused, table):
    said = refused("fit", table, "--target", "departmnt")
    assert "Did you mean 'department'?" in said


def test_blank_texts_and_labels_are_left_out_and_counted(headstart, rows, tmp_path):
    some = few(rows, 80)
    for row, blank in zip(some, ["", "   ", "\t"], strict=False):
        row["text"] = blank
    some[10]["label"] = ""
    told = headstart("fit", write(tmp_path / "t.csv", some), "--target", "label", "--out", tmp_path / "m", "--json")
    assert told.code == 0, told.err
    assert any(warning.startswith("3 rows have no input") for warning in told.json["data"]["warnings"])


def test_nan_and_none_in_a_frame(rows, tmp_path):
    import headstart as hs

    some = few(rows, 80)
    frame = {"text": [row["text"] for row in some], "label": [row["label"] for row in some]}
    frame["text"][3], frame["text"][4], frame["label"][5] = None, float("nan"), float("nan")
    model = hs.fit(frame, target="label", input="text", out=tmp_path / "m", method="scratch")
    assert model.predict([{"text": None}])[0]["label"]


def test_a_megabyte_of_text_in_a_cell(headstart, rows, tmp_path, bundle):
    some = few(rows)
    some[7]["text"] = "parcel late " * 90_000
    told = headstart("fit", write(tmp_path / "t.csv", some), "--target", "label", "--out", tmp_path / "m", "--quiet")
    assert told.code == 0, told.err
    big = write(tmp_path / "big.csv", [{"subject": "x", "body": some[7]["text"]}])
    assert headstart("predict", bundle, big, "--quiet").code == 0


def test_a_binary_file_named_csv(refused, tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    assert "Traceback" not in refused("fit", tmp_path / "t.csv", "--target", "label")


def test_duplicate_column_names(refused, tmp_path):
    (tmp_path / "t.csv").write_text("text,label,text\na b c,x,d\n")
    assert "'text'" in refused("fit", tmp_path / "t.csv", "--target", "label")


def test_a_broken_row_names_its_line(refused, tmp_path):
    (tmp_path / "t.csv").write_text("text,label\n" + "a b c,x\n" * 5 + "too,many,cells\n")
    assert "Line 7" in refused("fit", tmp_path / "t.csv", "--target", "label")


def test_broken_utf8_names_its_line(refused, tmp_path):
    (tmp_path / "t.csv").write_bytes("text,label\nschön,x\n".encode() * 3 + b"sch\xf6n,y\n")
    assert "Line 7" in refused("fit", tmp_path / "t.csv", "--target", "label")


def test_an_unknown_option_command_and_method(refused, table, tmp_path):
    assert "Did you mean 'fit'?" in refused("fitt", table)
    refused("fit", table, "--targte", "department")
    assert "Did you mean 'probe'?" in refused("fit", table, "--target", "department", "--method", "prob")
    assert "hub:name" in refused("fit", table, "--target", "department", "--backbone", "minilm")
    refused("fit", table, "--target", "department", "--input", "body", "--backbone", "local:nowhere")


def test_an_error_with_json_is_one_json_document(headstart, table):
    told = headstart("fit", table, "--target", "departmnt", "--json", "--quiet")
    assert told.code == 3
    assert told.json["error"]["kind"] == "DataError"


def test_a_flipped_byte_in_a_bundle(refused, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "m")
    for name in ("heads.safetensors", "targets.json", "report.json"):
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        assert name in refused("predict", copy, "some text", "--quiet")
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)


def test_a_bundle_of_a_newer_format(refused, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "m")
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    assert "newer headstart" in refused("show", copy)
    (copy / MANIFEST).write_text(json.dumps({**manifest, "format": 1}))
    assert "no longer reads" in refused("show", copy)


def test_a_place_that_holds_other_things_is_not_overwritten(refused, table, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    refused("fit", table, "--target", "department", "--out", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_table_without_the_models_columns(refused, bundle, tmp_path):
    wrong = write(tmp_path / "w.csv", [{"subjekt": "a", "body": "b"}])
    assert "Did you mean 'subjekt'?" in refused("predict", bundle, wrong, "-o", tmp_path / "o.csv", "--quiet")
    assert not list(tmp_path.glob("*o.csv*"))
    assert "department" in refused("evaluate", bundle, wrong, "--quiet")


def test_a_row_with_an_unknown_field(refused, bundle):
    assert "Did you mean 'subject'?" in refused("predict", bundle, '{"subjct": "a"}', "--quiet")


@pytest.fixture
def small_disk(tmp_path):
    """Yield a folder on a file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True)
    if made.returncode:
        pytest.skip("this machine does not let the tests mount a small file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_leaves_the_earlier_files(refused, bundle, table, small_disk):
    out = small_disk / "answers.csv"
    out.write_text("earlier\n")
    (small_disk / "filler").write_bytes(b"0" * (2_097_152 - 60_000))
    many = write(table.parent / "many.csv", [{"subject": "s", "body": "late parcel " * 20}] * 300)
    assert "full" in refused("predict", bundle, many, "-o", out, "--quiet")
    assert "full" in refused("fit", table, "--target", "department", "--out", small_disk / "m", "--quiet")
    assert out.read_text() == "earlier\n"
    assert sorted(each.name for each in small_disk.iterdir()) == ["answers.csv", "filler"]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "headstart", *map(str, arguments)]


@pytest.mark.parametrize("moment", [0.3, 1.5, 2.5, 3.2])
def test_a_killed_fit_leaves_the_earlier_bundle(headstart, bundle, table, tmp_path, moment):
    copy = Path(shutil.copytree(bundle, tmp_path / "m"))
    before = (copy / MANIFEST).read_bytes()
    with subprocess.Popen(
        command("fit", table, "--target", "priority", "--input", "subject,body", "--out", copy, "--quiet"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        time.sleep(moment)
        process.kill()
    told = headstart("show", copy, "--json")
    assert told.code == 0, told.err
    if (copy / MANIFEST).read_bytes() == before:
        assert headstart("predict", copy, "late parcel", "--quiet").code == 0


def test_interrupting_a_fit_exits_130_and_leaves_nothing(table, tmp_path):
    with subprocess.Popen(
        command("fit", table, "--target", "priority", "--input", "subject,body", "--out", tmp_path / "m"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job starts with Ctrl-C ignored, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_is_no_error(bundle, table):
    shell = f"{' '.join(command('predict', bundle, table, '--quiet'))} | head -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=dict(os.environ))
    assert json.loads(done.stdout)["department"]
    assert "Traceback" not in done.stderr
