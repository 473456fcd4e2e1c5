"""Recordings of every kind become the same samples; broken ones are named."""

from __future__ import annotations

import base64
import csv
import os
from pathlib import Path

import numpy as np
import pytest

from headstart import modalities
from headstart.core.backbone import Backbone, Network
from headstart.core.blob import Blob
from headstart.core.errors import DataError
from headstart.modalities import _samples, _spectra
from tests.unit.pipelines.sounds import file, tone

pytest.importorskip("soundfile")
pytest.importorskip("soxr")


SHARED = Path(os.environ.get("HEADSTART_SHARED", Path(__file__).parents[4] / "shared"))
KINDS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS")]


def close(found: np.ndarray, wanted: np.ndarray, share: float = 0.02) -> bool:
    """Return whether two sounds are alike, but for their edges, where filters ring."""
    length = min(len(found), len(wanted)) - 800
    difference = found[800:length] - wanted[800:length]
    return bool(np.sqrt((difference**2).mean()) < share * np.sqrt((wanted**2).mean()))


def smooth(seconds: float, rate: int) -> np.ndarray:
    at = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * at) + 0.1 * np.sin(2 * np.pi * 1500 * at)).astype(np.float32)


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_any_kind_and_rate_gives_the_same_samples(kind, subtype, rate):
    data = file(smooth(2, rate), rate, kind, subtype)
    found = _samples.recording(Blob("a", lambda: data), 16_000)
    assert found.dtype == np.float32
    assert abs(len(found) - 32_000) < 1500
    if kind != "MP3":  # its coder adds a delay of its own
        assert close(found, smooth(2, 16_000), 0.1 if kind == "OGG" else 0.02)


def test_channels_are_averaged_and_cells_may_be_bytes_urls_and_arrays():
    left, right = smooth(1, 16_000), np.zeros(16_000, np.float32)
    data = file(np.stack([left, right], axis=1), 16_000, "WAV", "FLOAT")
    url = "data:audio/wav;base64," + base64.b64encode(data).decode()
    samples, rate = _samples.decode(data, "a.wav")
    assert rate == 16_000
    assert np.allclose(samples, left / 2, atol=1e-6)
    array = {"samples": np.stack([left, right], axis=1), "rate": 16_000}
    for cell in (data, url, {"bytes": data, "path": None}, array):
        assert np.allclose(_samples.recording(cell, 16_000), samples, atol=1e-6)
    whole = {"samples": (left * 32767).astype(np.int16), "rate": 16_000}
    assert np.allclose(_samples.recording(whole, 16_000), left, atol=1e-4)


def test_bit_by_bit_is_as_at_once():
    sound = tone(11, 44_100)
    data = file(sound, 44_100, "WAV", "FLOAT")
    at_once = _samples.resample(sound, 44_100, 16_000)
    parts = list(_samples.pieces(data, 16_000))
    assert len(parts) > 3
    joined = np.concatenate(parts)
    assert abs(len(joined) - len(at_once)) <= 1
    assert np.allclose(joined[: len(at_once)], at_once[: len(joined)], atol=1e-4)
    live = np.concatenate(
        list(_samples.live(({"samples": x, "rate": 44_100} for x in np.array_split(sound, 97)), 16_000))
    )
    assert np.allclose(live[: len(joined)], joined[: len(live)], atol=1e-4)


def test_broken_recordings_are_named_with_the_reason():
    good = file(smooth(2, 16_000), 16_000, "WAV", "PCM_16")
    flac = file(smooth(2, 16_000), 16_000, "FLAC")
    silent = np.full(16_000, np.nan, np.float32)
    cells = {
        "good": good,
        "empty file": b"",
        "no sound": b"RIFF and so on" * 40,
        "cut wav": good[: len(good) // 2],
        "cut flac": flac[: len(flac) // 2],
        "no samples": file(np.zeros(0, np.float32), 16_000),
        "not numbers": file(silent, 16_000, "WAV", "FLOAT"),
        "a path": "/etc/passwd",
        "no rate": {"samples": np.zeros(5), "rate": 0},
        "blank": None,
    }
    audio = modalities.registry.get("audio").of({"columns": ["sound"]})
    found = audio.unreadable({"sound": list(cells.values())})
    named = {list(cells)[row] for row in found}
    assert named == set(cells) - {"good", "blank"}
    assert "cut short" in found[list(cells).index("cut wav")]
    assert "NaN" in found[list(cells).index("not numbers")]
    with pytest.raises(DataError, match="no recording"):
        _samples.recording(None, 16_000)


def test_a_header_that_does_not_know_its_length_is_no_fault():
    data = bytearray(file(smooth(1, 16_000), 16_000, "WAV", "PCM_16"))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    assert len(_samples.recording(bytes(data), 16_000)) == 16_000


def test_encode_is_bound_to_the_network_and_bounded():
    audio = modalities.registry.get("audio").of({"columns": ["sound"]})
    network = Network(
        Path(), "wav2vec2", {}, Path(), Backbone("local", "x"), {"sampling_rate": 8000, "do_normalize": True}
    )
    cells = [file(smooth(1, 16_000), 16_000), file(smooth(70, 4_000), 4_000)]
    given = audio.bind(network).encode(audio.prepare({"sound": cells}))
    assert given["lengths"].tolist() == [8000, 60 * 8000]
    assert len(given["samples"]) == given["lengths"].sum()
    assert abs(given["samples"][:8000].mean()) < 1e-3
    assert abs(given["samples"][:8000].std() - 1) < 1e-2


def test_contents_tell_recordings_apart():
    audio = modalities.registry.get("audio").of({"columns": ["sound"]})
    first = {"samples": tone(0.1), "rate": 16_000}
    cells = [file(tone(1), 16_000), first, {**first, "rate": 8_000}, first, None]
    found = audio.contents(audio.prepare({"sound": cells}))
    assert len({*found}) == 4
    assert found[1] == found[3]


def test_cepstra_tell_sounds_apart_not_loudness_nor_silence():
    audio = modalities.registry.get("audio").of({"columns": ["sound"]})
    high, low = smooth(1, 16_000), (0.3 * np.sin(np.arange(16_000) / 40)).astype(np.float32)
    quiet = np.concatenate([np.zeros(8_000, np.float32), high / 4, np.zeros(8_000, np.float32)])
    cells = [{"samples": each, "rate": 16_000} for each in (high, quiet, low, np.zeros(3, np.float32))]
    found = audio.handcrafted(audio.prepare({"sound": cells}))["audio_handcrafted"]
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.linalg.norm(found[0] - found[1]) < 0.5 * np.linalg.norm(found[0] - found[2])
    assert len(audio.handcrafted({"audio": np.empty(0, object)})["audio_handcrafted"]) == 0


def test_features_equal_the_librarys_own():
    transformers = pytest.importorskip("transformers")
    sounds = [tone(1.3), tone(31, seed=1), np.zeros(16_000, np.float32)]
    own = transformers.WhisperFeatureExtractor(feature_size=128)
    wanted = own(sounds, sampling_rate=16_000, return_tensors="np")["input_features"]
    for sound, expected in zip(sounds, wanted, strict=True):
        found = _spectra.log_mel(sound, own.to_dict())
        assert found.shape == (128, 3000)
        assert np.abs(found - expected).max() < 2e-3
        assert np.abs(found - expected).mean() < 1e-5
    own = transformers.Wav2Vec2FeatureExtractor()
    wanted = np.concatenate(own([tone(1.3), tone(2)], sampling_rate=16_000)["input_values"])
    assert np.allclose(_samples.encode([tone(1.3), tone(2)], own.to_dict())["samples"], wanted, atol=1e-5)


@pytest.mark.slow
def test_spoken_digits_of_unknown_speakers():
    folder = SHARED / "data" / "fsdd"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    with (folder / "index.csv").open(encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    audio = modalities.registry.get("audio").of({"columns": ["file"]})
    cells = [Blob.of_file(folder / "recordings" / each["file"]) for each in rows]
    features = audio.handcrafted(audio.prepare({"file": cells}))["audio_handcrafted"].astype(np.float64)
    digits, speakers = np.array([int(each["digit"]) for each in rows]), np.array([each["speaker"] for each in rows])
    right = np.zeros(len(rows), bool)
    for speaker in np.unique(speakers):
        train, test = speakers != speaker, speakers == speaker
        scaled = (features - features[train].mean(axis=0)) / (features[train].std(axis=0) + 1e-6)

        def kernel(a, b):
            apart = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
            return np.exp(-apart / (2 * a.shape[1]))

        inner = kernel(scaled[train], scaled[train]) + 0.1 * np.eye(train.sum())
        weights = np.linalg.solve(inner, 2.0 * np.eye(10)[digits[train]] - 1)
        right[test] = (kernel(scaled[test], scaled[train]) @ weights).argmax(axis=1) == digits[test]
    assert right.mean() > 0.80
