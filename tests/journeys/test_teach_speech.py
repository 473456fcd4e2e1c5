"""From a folder of recordings with transcripts to a model that writes down speech, and back from its bundle."""

from __future__ import annotations

import io
import subprocess
import sys
import wave

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("jiwer")
pytest.importorskip("soundfile")

from headstart.stages.fit import fit
from headstart.stages.taught import open_taught

pytestmark = pytest.mark.slow

RATE = 8_000
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from headstart.stages.taught import open_taught
print(open_taught(sys.argv[1]).predict(sys.argv[2])["text"])
"""
PITCHES = {"la": 300.0, "mi": 700.0, "so": 1500.0}


def sung(words: list[str], rng: np.random.Generator) -> bytes:
    """Return a WAV file in which each word is a tone of its own pitch."""
    parts = [np.zeros(800)]
    for word in words:
        at = np.arange(int(RATE * rng.uniform(0.25, 0.35))) / RATE
        parts += [0.3 * np.sin(2 * np.pi * PITCHES[word] * rng.uniform(0.97, 1.03) * at), np.zeros(800)]
    samples = np.concatenate(parts)
    samples = (20_000 * (samples + 0.005 * rng.standard_normal(len(samples)))).astype("<i2")
    held = io.BytesIO()
    with wave.open(held, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return held.getvalue()


def test_a_folder_with_transcripts_becomes_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    (tmp_path / "songs").mkdir()
    for number in range(24):
        words = rng.choice(list(PITCHES), rng.integers(1, 4)).tolist()
        (tmp_path / f"songs/{number:02}.wav").write_bytes(sung(words, rng))
        (tmp_path / f"songs/{number:02}.txt").write_text(" ".join(words).capitalize() + ".")
    (tmp_path / "songs/24.wav").write_bytes(b"no sound")
    (tmp_path / "songs/24.txt").write_text("la")
    settings = {"epochs": 3, "batch": 4, "rate": 3e-3}
    made = fit(tmp_path / "songs", task="transcribe", settings=settings, out=tmp_path / "model")
    report = made.report
    assert report["backbone"]["reference"] == "builtin:ctc-small"
    assert report["not_before"] == "it has not been trained yet"
    losses = [each["loss"] for each in report["trained"]["epochs"]]
    assert losses[-1] < 0.7 * losses[0]
    assert report["metrics"]["wer_ci"][0] <= report["metrics"]["wer"] <= report["metrics"]["wer_ci"][1]
    assert any("24.wav" in line for line in report["data"]["warnings"])
    again = open_taught(tmp_path / "model")
    new = tmp_path / "new.wav"
    new.write_bytes(sung(["mi", "la"], rng))
    assert again.predict(str(new)) == made.predict(str(new))
    assert list(again.network.labels) == ["<pad>", "|", *"ailmos"]
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "model"), str(new)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.rstrip("\n")) == (0, again.predict(str(new))["text"]), ran.stderr
