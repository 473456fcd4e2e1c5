"""Speech becomes text with times: as the library's own models say, of any length, from files and from a stream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headstart.core.arrays import Session
from headstart.core.backbone import Backbone, Network
from headstart.core.errors import HubError, UsageError
from headstart.pipelines import _ctc, registry
from headstart.pipelines._subtitles import subtitles
from headstart.stages.pretrained import pretrained
from tests.unit.pipelines.sounds import file, tone, write_wav2vec2, write_whisper

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("soundfile")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


RATE = 16_000


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Path:
    return write_wav2vec2(tmp_path_factory.mktemp("w") / "letters")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("h") / "whisper")


def logits_of(folder: Path, sound: np.ndarray) -> torch.Tensor:
    model = transformers.Wav2Vec2ForCTC.from_pretrained(folder).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        return model(**extractor(sound, sampling_rate=RATE, return_tensors="pt")).logits[0]


def test_letters_words_and_times_are_the_librarys_own(letters):
    sound = tone(5)
    record = pretrained(f"local:{letters}").predict({"samples": sound, "rate": RATE}, timestamps=True)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(letters / "vocab.json"))
    said = tokenizer.decode(logits_of(letters, sound).argmax(-1), output_word_offsets=True)
    assert len(said.text.split()) > 5
    assert record["text"].split() == said.text.split()
    words = [word for segment in record["segments"] for word in segment["words"]]
    offsets = [each for each in said.word_offsets if each["word"]]
    assert [word["text"] for word in words] == [each["word"] for each in offsets]
    assert np.allclose([word["start"] for word in words], [each["start_offset"] * 0.02 for each in offsets], atol=1e-3)
    assert np.allclose([word["end"] for word in words], [each["end_offset"] * 0.02 for each in offsets], atol=1e-3)


def test_any_file_is_heard_and_short_ones_are_read_whole(letters, tmp_path):
    model = pretrained(f"local:{letters}")
    whole = model.predict({"samples": tone(4), "rate": RATE})
    path = tmp_path / "a.flac"
    path.write_bytes(file(tone(4), RATE, "FLAC", "PCM_24"))
    assert model.predict(str(path)) == whole
    assert model.predict({"samples": tone(4), "rate": RATE}, window=4.0, overlap=0.5) == whole
    mp3 = model.predict(file(np.stack([tone(4, 44_100)] * 2, axis=1), 44_100, "MP3"))
    assert mp3["segments"][-1]["end"] > 3.5
    assert model.predict([file(tone(0.01), RATE)])[0]["text"].count(" ") < 2


def test_long_recordings_are_read_in_windows_that_join_up(tmp_path):
    # Without attention, a frame depends on what is near it only, so that windows must give the same answer.
    folder = write_wav2vec2(tmp_path / "near", num_hidden_layers=0, feat_extract_norm="layer")
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 16000, "do_normalize": false}')
    model = pretrained(f"local:{folder}")
    sound = tone(23.7)
    whole = model.predict({"samples": sound, "rate": RATE}, window=60.0, timestamps=True)
    for window, overlap in ((5.0, 1.0), (3.21, 0.7), (2.0, 0.5)):
        cut = model.predict(file(sound, RATE, "WAV", "FLOAT"), window=window, overlap=overlap, timestamps=True)
        assert cut == whole
    seen = []

    class Watched(Session):
        def run(self, arrays):
            seen.append(int(arrays["lengths"].sum()))
            return model.session.run(arrays)

    pieces = np.array_split(sound, 50)
    tokens = np.concatenate(list(_ctc.frames(model.network, Watched(), pieces, 3.0, 0.5)))
    assert max(seen) <= 3 * RATE
    assert len(tokens) == (len(sound) - 400) // 320 + 1


def test_beams_give_words_and_times_of_the_same_kind(letters):
    model = pretrained(f"local:{letters}")
    sound = {"samples": tone(6), "rate": RATE}
    plain = model.predict(sound, window=4.0, overlap=0.5)
    assert model.predict(sound, window=4.0, overlap=0.5, beams=1) == plain
    found = model.predict(sound, window=4.0, overlap=0.5, beams=5, timestamps=True)
    assert found["text"] and found["segments"][-1]["end"] <= 6.1
    for segment in found["segments"]:
        assert all(each["start"] < each["end"] for each in segment["words"])


def test_a_stream_of_chunks_is_written_down_as_it_comes(letters):
    model = pretrained(f"local:{letters}")
    sound = tone(17)
    asked = []

    def microphone():
        for chunk in np.array_split(sound, 40):
            asked.append(1)
            yield chunk

    pieces = []
    for piece in model.stream(microphone(), window=4.0, overlap=0.4):
        pieces.append((len(asked), piece))
    # The first segment is there before the last of the sound.
    assert len(pieces) > 1
    assert pieces[0][0] < 40
    text = model.predict({"samples": sound, "rate": RATE}, window=4.0, overlap=0.4)["text"]
    assert "".join(piece for _, piece in pieces) == text
    slow = ({"samples": each, "rate": 8_000} for each in np.array_split(tone(2, 8_000), 9))
    assert "".join(model.stream(slow))


def test_greedy_words():
    known = _ctc.Alphabet({0: "", 1: "|", 2: "A", 3: "B"}, 0)
    spelt = [0, 2, 2, 0, 2, 3, 1, 1, 0, 1, 3, 3, 0]
    for cut in range(len(spelt)):
        found = list(_ctc.words([np.array(spelt[:cut]), np.array(spelt[cut:])], known))
        assert found == [_ctc.Word("AAB", 1, 6), _ctc.Word("B", 10, 12)]
    assert list(_ctc.words([], known)) == []


def test_a_folder_without_letters_says_so(letters, tmp_path):
    folder = write_wav2vec2(tmp_path / "bare")
    (folder / "vocab.json").unlink()
    with pytest.raises(HubError, match=r"vocab\.json"):
        pretrained(f"local:{folder}").predict({"samples": tone(1), "rate": RATE})


def test_embeddings_and_classes_of_sounds_are_the_librarys_own(letters, tmp_path):
    sounds = [tone(1), tone(1.7, seed=1), tone(1, seed=2)]
    cells = [{"samples": each, "rate": RATE} for each in sounds]
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(letters)

    def alone(model):
        with torch.no_grad():
            return [model(**extractor(each, sampling_rate=RATE, return_tensors="pt")) for each in sounds]

    records = pretrained(f"local:{letters}", task="embed").predict(cells)
    wanted = [each.last_hidden_state.mean(1)[0] for each in alone(transformers.Wav2Vec2Model.from_pretrained(letters))]
    assert np.allclose([each["embedding"] for each in records], torch.stack(wanted), atol=1e-5)

    folder = write_wav2vec2(tmp_path / "classes", "ForSequenceClassification")
    own = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(folder).eval()
    records = pretrained(f"local:{folder}").predict(cells, top=3)
    wanted = [each.logits.softmax(-1)[0] for each in alone(own)]
    for record, shares in zip(records, wanted, strict=True):
        assert record["label"] == ["noise", "music", "speech"][int(shares.argmax())]
        assert abs(record["score"] - float(shares.max())) < 1e-5


def test_whisper_writes_what_the_library_writes(whisper):
    sound = tone(9)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(whisper)
    mel = extractor(sound, sampling_rate=RATE, return_tensors="pt").input_features
    opened = pretrained(f"local:{whisper}")
    for timestamps in (True, False):
        given = list(
            opened.session.generate(
                {"mel": mel.numpy(), "lengths": np.array([len(sound)])}, {"language": "de", "timestamps": timestamps}
            )
        )
        own = model.generate(mel, language="de", task="transcribe", return_timestamps=timestamps, return_segments=True)[
            "segments"
        ][0]
        assert [each["tokens"].tolist() for each in given] == [
            [token for token in each["tokens"].tolist() if token < 256] for each in own
        ]
        assert np.allclose([each["start"] for each in given], [float(each["start"]) for each in own])
        assert sum(len(each["tokens"]) for each in given) > 0
    record = opened.predict({"samples": sound, "rate": RATE}, language="de")
    assert record["segments"]
    assert all(0 <= each["start"] <= each["end"] <= 9 for each in record["segments"])
    with pytest.raises(UsageError, match="'en'"):
        opened.predict({"samples": sound, "rate": RATE}, language="xx")


def test_whisper_reads_long_recordings_window_by_window(whisper):
    model = pretrained(f"local:{whisper}")
    lengths = []

    class Regular(Session):
        """Hears a sentence of seven seconds after the other; the window's end cuts the last."""

        def run(self, arrays):
            raise AssertionError("it generates")

        def generate(self, arrays, settings):
            seconds = arrays["lengths"][0] / RATE
            lengths.append(seconds)
            assert arrays["mel"].shape == (1, 80, 3000)
            for start in np.arange(0, seconds, 7):
                yield {"tokens": np.array([40, 41]), "start": np.array(start), "end": np.array(min(start + 7, seconds))}

    pipeline = registry.get("transcribe")()
    cell = {"samples": tone(100), "rate": RATE}
    record = pipeline.run(model.network, Regular(), [cell], pipeline.settle({}))[0]
    assert [each["start"] for each in record["segments"]] == list(range(0, 100, 7))
    assert [each["end"] for each in record["segments"]] == [*range(7, 100, 7), 100]
    assert lengths == [30, 30, 30, 16]
    record = model.predict({"samples": tone(45), "rate": RATE}, language="en")
    assert [each["start"] for each in record["segments"]] == sorted(each["start"] for each in record["segments"])
    assert record["segments"][-1]["end"] <= 45


def test_transcripts_are_written_as_text_subtitles_and_json(letters, tmp_path):
    model = pretrained(f"local:{letters}")
    cell = {"samples": tone(3), "rate": RATE}
    records = [model.predict(cell)]
    for suffix in ("txt", "srt", "vtt", "json", "csv"):
        model.write(records, [cell], tmp_path / f"a.{suffix}")
    assert (tmp_path / "a.txt").read_text() == records[0]["text"] + "\n"
    assert (tmp_path / "a.srt").read_text().startswith("1\n00:00:0")
    assert (tmp_path / "a.vtt").read_text().startswith("WEBVTT\n\n00:00:0")
    assert json.loads((tmp_path / "a.json").read_text()) == records[0]
    assert records[0]["text"] in (tmp_path / "a.csv").read_text()
    with pytest.raises(UsageError, match="2 recordings"):
        model.write(records * 2, [cell] * 2, tmp_path / "b.srt")
    assert not (tmp_path / "b.srt").exists()


def test_subtitles_hold_no_line_that_ends_them():
    text = subtitles([{"start": 59.9996, "end": 61, "text": "a\n\nb --> <i>&"}], True)
    assert text == "WEBVTT\n\n00:01:00.000 --> 00:01:01.000\na b → &lt;i>&amp;\n"


def test_what_hears_nothing_is_refused():
    network = Network(Path(), "bert", {}, Path(), Backbone("local", "x", uses=("embed",)))
    for name in ("transcribe", "speech", "imagine"):
        assert registry.get(name)().supports(network)
