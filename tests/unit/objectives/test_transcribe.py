"""Recordings and transcripts: how they are prepared for learning, and how what is heard is judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headstart.core.backbone import Backbone, Network
from headstart.core.dataset import Dataset
from headstart.core.errors import DataError, HubError, UsageError
from headstart.objectives import registry
from headstart.objectives._recordings import Recordings, varied
from headstart.objectives._wording import errors, plain
from headstart.objectives.transcribe import Transcribe, frame_count
from headstart.testing.files import recording

pytest.importorskip("soundfile")
pytest.importorskip("soxr")

SAID = ["Yes, please.", "no", "Don't!", "", "well   done"]
TABLE = {"audio": [recording(seed, seconds=0.5 + 0.2 * seed) for seed in range(5)], "transcript": SAID}
DATASET = Dataset(TABLE, inputs={"audio": ["audio"]}, origin="toy.csv")
CTC = {"conv_kernel": [400, 1], "conv_stride": [160, 2]}


def network(folder: Path, **changes) -> Network:
    settings = {"library": "ctc", "config": dict(CTC), "preprocessing": {"sampling_rate": 16_000}, **changes}
    uses = ("transcribe",)
    return Network(
        folder,
        "x",
        weights=folder / "config.json",
        backbone=Backbone("local", "x", modality="audio", uses=uses),
        **settings,
    )


def test_texts_are_compared_by_their_words():
    assert plain("  Hello, WORLD! ") == "hello world"
    assert plain("rock ’n’ roll; it’s 5—6 p.m.") == "rock n roll it's 5 6 p m"
    assert plain("ﬁve\tÄpfel\u200b") == "five äpfel"
    assert plain("'quoted' | a'b") == "quoted a'b"
    assert plain("…!") == ""


def test_error_rates_of_cases_worked_out_by_hand():
    pytest.importorskip("jiwer")
    said = ["one two three four", "five", "six seven", ""]
    heard = ["one too three", "five", "six six seven", "noise"]
    judged = errors(said, heard)
    # One word replaced, one left out, two put in, of seven.
    assert (judged["replaced"], judged["left_out"], judged["put_in"]) == (1, 1, 2)
    assert judged["wer"] == pytest.approx(4 / 7)
    assert judged["words"] == 7
    # two → too: 1; " four": 5 letters left out; "six ": 4 put in; "noise": 5 put in; of 18 + 4 + 9 letters.
    assert judged["cer"] == pytest.approx((1 + 5 + 4 + 5) / (18 + 4 + 9))
    assert judged["exact"] == 0.25
    assert judged["wer_ci"][0] < judged["wer"] < judged["wer_ci"][1]
    assert errors(["a b"], ["a b"])["wer_ci"] == [0.0, 0.0]
    assert errors(["a b"], [""])["wer"] == 1.0
    assert errors([], [])["rows"] == 0
    json.dumps(judged, allow_nan=False)


def test_records_are_judged_against_the_transcripts_that_there_are():
    pytest.importorskip("jiwer")
    objective = Transcribe.of(DATASET, range(5), {})
    heard = ["yes please", "know", "DON'T", "anything", "well"]
    judged = objective.judge([{"text": text} for text in heard], TABLE)
    assert judged["rows"] == 4
    assert judged["wer"] == pytest.approx(2 / 6)
    assert objective.primary == "wer"
    assert not objective.higher


def test_the_columns_are_found_or_asked_for():
    objective = Transcribe.of(DATASET, range(5), {})
    assert objective.columns == ("audio", "transcript")
    assert "".join(objective.letters) == "'adelnopstwy"
    assert Transcribe.load(json.loads(json.dumps(objective.settings()))) == objective
    assert isinstance(registry.get("transcribe"), type)
    # Letters that only the held-out rows have are not known.
    assert "w" not in Transcribe.of(DATASET, range(3), {}).letters
    with pytest.raises(DataError, match="'voice'"):
        Transcribe.of(DATASET, range(5), {"input": "voice"})
    with pytest.raises(DataError, match="--target"):
        Transcribe.of(Dataset({"audio": TABLE["audio"], "x": SAID}, inputs={"audio": ["audio"]}), range(5), {})
    with pytest.raises(DataError, match="no words"):
        Transcribe.of(DATASET, [3], {})
    with pytest.raises(DataError, match="No columns"):
        Transcribe.of(Dataset(TABLE), range(5), {})


def test_a_network_keeps_letters_that_do_and_gets_others_where_they_do_not(tmp_path):
    objective = Transcribe.of(DATASET, range(5), {})
    fresh = objective.ready(network(tmp_path))
    assert fresh["labels"] == ("<pad>", "|", *objective.letters)
    assert fresh["config"]["labels"] == list(fresh["labels"])
    names = ["<pad>", "<s>", "</s>", "<unk>", "|", *"'ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    (tmp_path / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    own = network(tmp_path, library="transformers", config={**CTC, "pad_token_id": 0, "architectures": ["HubertModel"]})
    assert objective.ready(own) == {"use": "transcribe"}
    # The network writes upper case: that is how the transcripts are spelt for it.
    batch = objective.examples(own, TABLE, 0).batch(np.array([2, 4]))
    assert [names[each] for each in batch["tokens"]] == list("DON'TWELL|DONE")
    assert batch["tokens_lengths"].tolist() == [5, 9]
    (tmp_path / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names[:15])}))
    other = objective.ready(own)
    assert other["labels"] == fresh["labels"]
    assert other["config"]["vocab_size"] == len(fresh["labels"])
    assert other["config"]["architectures"] == ["HubertForCTC"]
    (tmp_path / "vocab.json").unlink()
    assert objective.ready(own)["labels"] == fresh["labels"]
    text = Network(tmp_path, "bert", {}, tmp_path, Backbone("local", "x", modality="text"))
    with pytest.raises(UsageError, match="reads text"):
        objective.ready(text)


def test_whisper_needs_its_tokenizer(tmp_path):
    objective = Transcribe.of(DATASET, range(5), {})
    whisper = network(tmp_path, preprocessing={"feature_extractor_type": "WhisperFeatureExtractor"})
    assert objective.ready(whisper) == {"use": "transcribe"}
    with pytest.raises(HubError, match=r"tokenizer\.json"):
        objective.examples(whisper, TABLE, 0)


def test_rows_that_cannot_be_learnt_from_are_named():
    cells = [recording(0, seconds=0.3), recording(1, seconds=31, rate=4000), b"no sound", recording(3), recording(4)]
    table = {"audio": cells, "transcript": ["the quick brown fox jumps", "long", "broken", " ", "fine"]}
    found = Transcribe.of(Dataset(table, inputs={"audio": ["audio"]}), range(5), {}).unusable(table)
    assert sorted(found) == [0, 1, 2, 3]
    assert "0.30 s, in which nobody says 25 letters" in found[0]
    assert "31 s; at most 30 s" in found[1]
    assert "not a recording" in found[2]
    assert "no transcript" in found[3]


def test_recordings_vary_with_each_pass_and_alike_for_the_same_seed(tmp_path):
    objective = Transcribe.of(DATASET, range(5), {})
    ready = network(tmp_path, labels=objective.ready(network(tmp_path))["labels"])

    def batch(seed: int, rows: list[int], epoch: int | None) -> dict[str, np.ndarray]:
        return objective.examples(ready, TABLE, seed).batch(np.array(rows), epoch)

    first, again = batch(0, [1, 2, 4], 3), batch(0, [1, 2, 4], 3)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    # Each row's variation depends on nothing else in its batch.
    alone = batch(0, [2], 3)
    start = int(first["lengths"][0])
    assert np.array_equal(first["samples"][start : start + int(first["lengths"][1])], alone["samples"])
    for other in (batch(0, [2], 4), batch(1, [2], 3), batch(0, [2], None)):
        assert not np.array_equal(other["samples"], alone["samples"])
    plainly = batch(0, [2], None)
    assert plainly["lengths"].tolist() == [round(0.9 * 16_000)]
    assert abs(float(plainly["samples"].mean())) < 1e-3
    sizes = objective.examples(ready, TABLE, 0).sizes
    assert sizes.tolist() == [-(-round((0.5 + 0.2 * seed) * 16_000) // 320) for seed in range(5)]


def test_a_recording_is_never_made_too_short_for_its_letters():
    cell = {"samples": np.random.default_rng(0).standard_normal(16_000).astype(np.float32), "rate": 16_000}
    needed = frame_count(CTC, 16_000)
    spoken = Recordings([cell], [list(range(1, needed + 1))], {}, 0, lambda length: frame_count(CTC, length))
    made = [int(spoken.batch(np.array([0]), epoch)["lengths"][0]) for epoch in range(30)]
    assert min(made) >= 15_800
    assert max(made) > 16_500


def test_varied_recordings_keep_most_of_what_they_are():
    samples = np.sin(np.arange(16_000) * 0.3).astype(np.float32)
    for seed in range(20):
        other = varied(samples, 16_000, np.random.default_rng(seed))
        assert other.dtype == np.float32
        assert 0.87 * 16_000 < len(other) < 1.15 * 16_000
        assert 0.3 < other.std() / samples.std() < 2.3


def test_frames_are_counted_as_networks_make_them():
    assert frame_count(CTC, 400) == 1
    assert frame_count(CTC, 399) == 0
    assert frame_count(CTC, 16_000) == 49
    assert frame_count({}, 16_000) == 49


def test_beams_are_kept_for_judging_and_for_answers():
    made = Transcribe.of(DATASET, range(5), {"beams": "4"})
    assert made.options == {"timestamps": False, "beams": 4} and made.usual == {"beams": 4}
    assert Transcribe.load(json.loads(json.dumps(made.settings()))) == made
    plain_one = Transcribe.of(DATASET, range(5), {})
    assert plain_one.options == {"timestamps": False} and plain_one.usual == {}
    older = {name: value for name, value in plain_one.settings().items() if name != "beams"}
    assert Transcribe.load(older) == plain_one
    with pytest.raises(UsageError, match="beams is 'many'"):
        Transcribe.of(DATASET, range(5), {"beams": "many"})
