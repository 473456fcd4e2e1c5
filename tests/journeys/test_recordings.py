"""Recordings from folders, and from tables whose files lie elsewhere: fit, predict, serve; without torch."""

from __future__ import annotations

import base64
import csv
import json
import signal
import subprocess
import sys

import httpx2
import numpy as np
import pytest

import headstart as hs
from headstart.testing.files import recording

pytest.importorskip("soundfile")
pytest.importorskip("soxr")

PITCHES = {"low": 220, "middle": 660, "high": 1980}
EACH = 16


def tone(number: int, seed: int) -> bytes:
    """Return a tone near its class's pitch, a little off and of its own length."""
    pitch = list(PITCHES.values())[number] * (0.9 + 0.2 * seed / EACH)
    return recording(1000 * number + seed, pitch=pitch, seconds=0.3 + 0.01 * seed).read()


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Return a folder of three classes of tones, two of which are broken."""
    root = tmp_path_factory.mktemp("tones")
    for number, label in enumerate(PITCHES):
        (root / label).mkdir()
        for seed in range(EACH):
            (root / label / f"{seed}.wav").write_bytes(tone(number, seed))
    (root / "low" / "text.wav").write_text("This is no recording.")
    (root / "high" / "cut.wav").write_bytes((root / "high" / "1.wav").read_bytes()[:20])
    return root


@pytest.fixture(scope="module")
def bundle(tones, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "tones"
    hs.fit(tones, out=out)
    return out


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Return a table that names files without the folder below it in which they lie; one row has a copy."""
    root = tmp_path_factory.mktemp("manifest")
    (root / "clips").mkdir()
    rows = []
    for number, label in enumerate(PITCHES):
        for seed in range(EACH):
            (root / "clips" / f"{number}_{seed}.wav").write_bytes(tone(number, seed))
            rows.append({"filename": f"{number}_{seed}.wav", "speaker": f"s{seed % 8}", "pitch": label})
    (root / "clips" / "copy.wav").write_bytes(tone(0, 0))
    rows.append({"filename": "copy.wav", "speaker": "s0", "pitch": "low"})
    with (root / "tones.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root / "tones.csv"


def test_a_folder_of_class_folders(bundle):
    report = hs.open_model(bundle).report
    assert report["targets"]["label"]["accuracy"] > 0.8
    assert report["data"]["rows"] == len(PITCHES) * EACH
    told = " ".join(report["data"]["warnings"])
    assert "2 rows are left out" in told
    assert "low/text.wav" in told
    assert "high/cut.wav" in told
    assert "No pretrained model that reads audio is on this machine" in told


def test_one_recording_is_answered(headstart, bundle, tones):
    told = headstart("predict", bundle, tones / "high" / "3.wav", "--json", "--quiet")
    assert told.json["label"] == "high"
    model = hs.open_model(bundle)
    content = (tones / "high" / "3.wav").read_bytes()
    samples = np.frombuffer(content[44:], "<i2")
    for cell in (content, {"bytes": content, "path": None}, {"samples": samples, "rate": 8000}):
        assert model.predict({"audio": cell})["label"] == "high"


def test_a_folder_is_answered_file_by_file(headstart, bundle, tones, tmp_path):
    told = headstart("predict", bundle, tones, "-o", tmp_path / "out.jsonl")
    assert told.code == 0, told.err
    assert "2 rows have no answer" in told.err
    rows = {row["file"]: row for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    assert rows["low/7.wav"]["label"] == "low"
    assert rows["low/text.wav"]["label"] is None


def test_a_manifest_whose_files_lie_in_a_folder_below_it(headstart, manifest, tmp_path):
    out = tmp_path / "m"
    told = headstart("fit", manifest, "--target", "pitch", "--group", "speaker", "--out", out, "--json", "--quiet")
    assert told.code == 0, told.err
    report = told.json
    assert report["data"]["inputs"] == {"audio": ["filename"]}
    assert report["data"]["twins"] == {"rows": 2, "groups": 1}
    assert report["targets"]["pitch"]["accuracy"] > 0.8
    told = headstart("predict", out, manifest, "-o", tmp_path / "out.csv", "--quiet")
    assert told.code == 0, told.err
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["filename"] == "0_0.wav"
    assert np.mean([row["pitch"] == row["pitch_given"] for row in rows]) > 0.8


def test_the_server_answers_the_content_of_a_recording(bundle, tones):
    command = [sys.executable, "-m", "headstart", "serve", str(bundle), "--port", "0", "--json", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        with httpx2.Client(base_url=json.loads(line)["url"], timeout=30) as client:
            content = base64.b64encode((tones / "high" / "3.wav").read_bytes()).decode()
            answer = client.post("/predict", json={"audio": f"data:audio/wav;base64,{content}"})
            refused = client.post("/predict", json={"audio": str(tones / "high" / "3.wav")})
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert answer.json()["label"] == "high"
    assert refused.status_code == 422
    assert "data: URL" in refused.json()["error"]["message"]
