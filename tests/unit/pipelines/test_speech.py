"""Speech is told from silence in a real recording, bit by bit as at once, and silence is cut out of transcripts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from headstart.core.arrays import Session
from headstart.core.backbone import Backbone
from headstart.core.blob import Blob
from headstart.core.errors import UsageError
from headstart.formats.silero import Silero
from headstart.hubs._generators import open_generator
from headstart.pipelines import registry
from headstart.pipelines._voice import Cut, probabilities, stretches
from tests.unit.pipelines.sounds import file, write_wav2vec2

pytest.importorskip("onnxruntime")
soundfile = pytest.importorskip("soundfile")

SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).parents[4] / "shared"))
FOLDER = SHARED / "weights" / "silero_vad"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"there is no {FOLDER}"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


RATE = 16_000


@pytest.fixture(scope="module")
def detector():
    path = FOLDER / "silero_vad.onnx"
    network = open_generator(path, Backbone("local", str(path)))
    assert (network.library, network.backbone.modality, network.backbone.uses) == ("silero", "audio", ("speech",))
    return network, Silero().open(network, "f32", 1)


@pytest.fixture(scope="module")
def sound():
    return soundfile.read(FOLDER / "test.wav", dtype="float32")[0]


def found(detector, cell, **options):
    pipeline = registry.get("speech")()
    return pipeline.run(*detector, [cell], pipeline.settle(options))[0]


def test_speech_and_silence_are_clear(detector, sound):
    shares = np.array([share for share, _ in probabilities(detector[1], [sound])])
    assert ((shares < 0.1) | (shares > 0.9)).mean() > 0.9
    record = found(detector, Blob.of_file(FOLDER / "test.wav"))
    assert 10 < len(record["segments"]) < 40
    assert 40 < record["seconds"] < 55
    # What is loud is speech here, and what lies between the stretches is quiet.
    inside = np.zeros(len(sound), bool)
    for each in record["segments"]:
        inside[int(each["start"] * RATE) : int(each["end"] * RATE)] = True
    assert np.abs(sound[inside]).mean() > 10 * np.abs(sound[~inside]).mean()
    assert "s of speech" in registry.get("speech")().show(record)


def test_silence_and_noise_hold_no_speech(detector):
    for quiet in (np.zeros(RATE * 3, np.float32), 0.01 * np.random.default_rng(0).standard_normal(RATE * 3)):
        assert found(detector, {"samples": quiet, "rate": RATE}) == {"segments": [], "seconds": 0}


def test_bit_by_bit_is_as_at_once(detector, sound):
    part = sound[: 12 * RATE]
    whole = [share for share, _ in probabilities(detector[1], [part])]
    for pieces in (np.array_split(part, 700), np.array_split(part, 3)):
        assert np.allclose([share for share, _ in probabilities(detector[1], pieces)], whole, atol=1e-5)


def test_other_rates_give_the_same_stretches(detector, sound):
    from headstart.modalities._samples import resample

    part = sound[: 20 * RATE]
    first = found(detector, {"samples": part, "rate": RATE})["segments"]
    again = found(detector, file(resample(part, RATE, 44_100), 44_100))["segments"]
    assert len(first) == len(again)
    assert all(abs(a[name] - b[name]) < 0.1 for a, b in zip(first, again, strict=True) for name in ("start", "end"))


def test_long_speech_is_cut_and_every_sample_is_where_it_was(detector, sound):
    cut = Cut(silence=0.3, margin=0.1, longest=4.0)
    for start, samples in stretches(detector[1], np.array_split(sound, 200), cut):
        at = round(start * RATE)
        assert len(samples) <= 4.1 * RATE
        expected = sound[at : at + len(samples)]
        assert np.array_equal(samples[: len(expected)], expected)


def test_silence_is_cut_out_before_speech_is_written_down(detector, sound, tmp_path):
    pytest.importorskip("transformers")
    from headstart.stages.pretrained import pretrained

    folder = write_wav2vec2(tmp_path / "letters")
    model = pretrained(f"local:{folder}")
    part = {"samples": np.concatenate([np.zeros(4 * RATE, np.float32), sound[: 5 * RATE]]), "rate": RATE}
    read = []

    class Watched(Session):
        def run(self, arrays):
            read.append(int(arrays["lengths"].sum()))
            return model.session.run(arrays)

    pipeline = registry.get("transcribe")()
    cut = model.predict(part, vad=detector[1])
    assert [cut] == pipeline.run(model.network, Watched(), [part], pipeline.settle({"vad": detector[1]}))
    assert 3 * RATE < sum(read) < 6 * RATE
    assert 3.5 < cut["segments"][0]["start"] < 5
    chunks = np.array_split(part["samples"], 90)
    assert "".join(model.stream(iter(chunks), vad=detector[1])) == cut["text"]
    with pytest.raises(UsageError, match="voice detector"):
        model.predict(part, vad=3)
