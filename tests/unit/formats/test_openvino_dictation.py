"""A Whisper traced into OpenVINO writes what transformers' own `generate` writes, and needs PyTorch only once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-all` installs it")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("openvino")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from headstart.core.backbone import Backbone  # noqa: E402
from headstart.core.errors import UsageError  # noqa: E402
from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats import _whisper  # noqa: E402
from headstart.formats.openvino import OpenVINO  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.hubs.local import Local  # noqa: E402
from headstart.stages.networks import frozen, start  # noqa: E402
from tests.unit.pipelines.sounds import tone, write_whisper  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, PyTorch runs them"),
]
WITHOUT_TORCH = """
import json, sys
for name in ("torch", "transformers"):
    sys.modules[name] = None
import numpy as np
from pathlib import Path
from headstart.stages.networks import start, thaw
opened = start(thaw(Path(sys.argv[2]), json.loads(Path(sys.argv[1]).read_text())))
given = {"mel": np.load(sys.argv[3]), "lengths": np.array([16000])}
steps = opened.session.generate(given, {"timestamps": True})
print(opened.format, [each["tokens"].tolist() for each in steps])
"""
VOCABULARY = 40
OWN = {
    "eos_token_id": 20,
    "decoder_start_token_id": 21,
    "no_timestamps_token_id": 25,
    "max_initial_timestamp_index": 5,
    "suppress_tokens": [3, 4, 22],
    "begin_suppress_tokens": [7, 20],
    "max_length": 30,
}
CONFIG = {"vocab_size": VOCABULARY, "max_target_positions": 30}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def network_in(folder: Path, use: str = "transcribe"):
    return replace(Local().fetch(Backbone.parse(f"local:{folder}"), Quiet()), use=use)


def change(folder: Path, **settings) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def spectra(count: int) -> list[np.ndarray]:
    extractor = transformers.WhisperFeatureExtractor()
    sounds = [tone(3 + 9 * number, seed=number) for number in range(count)]
    return [extractor(each, sampling_rate=16_000, return_tensors="np").input_features for each in sounds]


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"suppress_tokens": list(range(60, 256)), "begin_suppress_tokens": [32, 256]},
        {"language": "<|de|>", "max_initial_timestamp_index": None, "max_length": 40},
        {"lang_to_id": None, "task_to_id": None, "is_multilingual": False, "forced_decoder_ids": [[1, 265]]},
    ],
)
def test_it_writes_what_the_library_writes(own, tmp_path):
    folder = write_whisper(tmp_path / "whisper")
    change(folder, **own)
    if not own.get("lang_to_id", True):
        file = folder / "generation_config.json"
        file.write_text(json.dumps({name: each for name, each in json.loads(file.read_text()).items() if each}))
    network = network_in(folder)
    opened = start(network)
    assert (opened.format, opened.precision) == ("openvino", "f32")
    theirs, written = Torch().open(network, "f32", 1), 0
    languages = (None, "en", "de") if own.get("lang_to_id", True) else (None,)
    for number, mel in enumerate(spectra(3)):
        for timestamps in (True, False):
            arrays = {"mel": mel, "lengths": np.array([48_000])}
            asked = {"language": languages[number % len(languages)], "timestamps": timestamps}
            ours, expected = list(opened.session.generate(arrays, asked)), list(theirs.generate(arrays, asked))
            assert [each["tokens"].tolist() for each in ours] == [each["tokens"].tolist() for each in expected]
            for name in ("start", "end"):
                assert np.allclose([each[name] for each in ours], [each[name] for each in expected])
            written += sum(len(each["tokens"]) for each in ours)
    assert written > 20
    with pytest.raises(UsageError, match="does not know the language 'xx'"):
        list(opened.session.generate(arrays, {"language": "xx"}))


def test_a_text_may_be_cut(tmp_path):
    folder = write_whisper(tmp_path / "whisper")
    # Times that nobody asked for would end a window, and what follows would be heard again.
    change(folder, suppress_tokens=list(range(256, 1767)))
    session = start(network_in(folder)).session
    arrays = {"mel": spectra(1)[0], "lengths": np.array([48_000])}
    for most, written in ((3, 3), (None, 20), (10_000, 60)):
        (only,) = session.generate(arrays, {"max_tokens": most})
        assert len(only["tokens"]) == written


def test_several_write_at_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    session = start(network_in(write_whisper(tmp_path / "whisper"))).session
    cells = [{"mel": each, "lengths": np.array([48_000])} for each in spectra(3)] * 3

    def written(arrays):
        return [each["tokens"].tolist() for each in session.generate(arrays, {"timestamps": True})]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(written, cells)) == [written(each) for each in cells]


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"num_beams": 3}, "num_beams"),
        ({"no_speech_threshold": 0.6}, "no_speech_threshold"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
        ({"language": "german"}, "the language 'german'"),
        ({"max_length": None}, "how many tokens"),
        ({"_from_model_config": True}, "was derived"),
    ],
)
def test_settings_that_only_the_library_knows_are_left_to_it(own, reason, tmp_path):
    folder = write_whisper(tmp_path / "whisper")
    change(folder, **own)
    network = network_in(folder)
    assert reason in OpenVINO().supports(network)
    assert start(network).format == "torch"


def test_without_settings_it_is_left_to_the_library(tmp_path):
    folder = write_whisper(tmp_path / "whisper")
    (folder / "generation_config.json").unlink()
    assert "has no generation_config.json" in OpenVINO().supports(network_in(folder))


def test_what_was_traced_once_needs_no_pytorch(tmp_path):
    network = network_in(write_whisper(tmp_path / "whisper"))
    opened = start(network)
    (tmp_path / "spec.json").write_text(json.dumps(opened.spec(True) | frozen(network)))
    mel = spectra(1)[0]
    np.save(tmp_path / "mel.npy", mel)
    command = [sys.executable, "-c", WITHOUT_TORCH, "spec.json", str(network.folder), "mel.npy"]
    ran = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    steps = opened.session.generate({"mel": mel, "lengths": np.array([16_000])}, {"timestamps": True})
    assert (ran.returncode, ran.stdout.strip()) == (0, f"openvino {[each['tokens'].tolist() for each in steps]}"), (
        ran.stderr
    )


@pytest.mark.parametrize("form", ["int8", "int4", "f16"])
def test_narrower_weights_write_too(form, tmp_path):
    pytest.importorskip("nncf")
    network = network_in(write_whisper(tmp_path / "whisper"))
    small = OpenVINO().compress(network, form, [], tmp_path / form)
    assert small.weights.with_suffix(".bin").stat().st_size < 4 * network.backbone.parameters
    arrays = {"mel": spectra(1)[0], "lengths": np.array([48_000])}
    theirs = OpenVINO().open(network, "f32", 1)
    ours = start(small).session
    mel = arrays["mel"]
    scores, exact = ours.heard(mel)()([257, 258]), theirs.heard(mel)()([257, 258])
    assert scores @ exact / np.linalg.norm(scores) / np.linalg.norm(exact) > (0.9 if form == "int4" else 0.999)
    assert list(ours.generate(arrays, {"timestamps": True}))


@pytest.mark.parametrize("use", ["embed", "classify"])
def test_its_encoder_gives_what_pytorch_gives(use, tmp_path):
    folder = write_whisper(tmp_path / "whisper")
    if use == "classify":
        config = transformers.AutoConfig.from_pretrained(folder, num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
        transformers.WhisperForAudioClassification(config).save_pretrained(folder)
    network = network_in(folder, use)
    arrays = {"mel": np.concatenate(spectra(3)), "lengths": np.array([48_000, 192_000, 1])}
    opened = start(network)
    assert opened.format == "openvino"
    ((name, theirs),) = Torch().open(network, "f32", 1).run(arrays).items()
    ours = opened.session.run(arrays)
    assert list(ours) == [name] and ours[name].shape == theirs.shape
    assert np.abs(ours[name] - theirs).max() < 1e-4 * max(1, np.abs(theirs).max())


scores = st.lists(st.floats(-8, 8), min_size=VOCABULARY, max_size=VOCABULARY)
texts = st.lists(st.integers(0, VOCABULARY - 1).filter(lambda each: each != 20), max_size=12)


@settings(deadline=None, max_examples=200)
@given(scores, texts, st.booleans())
def test_tokens_may_follow_as_in_the_library(values, tokens, timed):
    config = transformers.GenerationConfig(**OWN)
    processors = [
        transformers.SuppressTokensAtBeginLogitsProcessor(OWN["begin_suppress_tokens"], begin_index=2),
        transformers.SuppressTokensLogitsProcessor(OWN["suppress_tokens"]),
        *([transformers.WhisperTimeStampLogitsProcessor(config, begin_index=2)] if timed else []),
    ]
    theirs = torch.tensor([values])
    for each in processors:
        theirs = each(torch.tensor([[21, 23, *tokens]]), theirs)
    ours = _whisper.Rules(OWN, CONFIG).allowed(np.array(values, np.float32), tokens, timed)
    assert np.array_equal(np.isinf(ours), np.isinf(theirs[0].numpy()))
    assert np.array_equal(ours[np.isfinite(ours)].astype(np.float32), theirs[0].numpy()[np.isfinite(ours)])


@settings(deadline=None, max_examples=300)
@given(texts, st.sampled_from([3000, 1400, 26]))
def test_stretches_are_the_librarys(tokens, frames):
    theirs, moved = transformers.WhisperForConditionalGeneration._retrieve_segment(
        seek_sequence=torch.tensor(tokens, dtype=torch.long),
        seek_outputs=[None],
        time_offset=torch.zeros(1, dtype=torch.float64),
        timestamp_begin=26,
        seek_num_frames=torch.tensor([frames]),
        time_precision=0.02,
        time_precision_features=0.01,
        input_stride=2,
        prev_idx=0,
        idx=0,
        return_token_timestamps=False,
        decoder_input_ids=torch.zeros(1, 2),
    )
    ours, went = _whisper.Rules(OWN, CONFIG)._stretches(np.array(tokens, np.int64), frames)
    assert [some.tolist() for _, _, some in ours] == [each["tokens"].tolist() for each in theirs]
    for place, name in enumerate(("start", "end")):
        assert np.allclose([each[place] * _whisper.TICK for each in ours], [float(each[name]) for each in theirs])
    # Where the library would stay where it is, for ever, it is one frame.
    assert went == max(int(moved), 1)
