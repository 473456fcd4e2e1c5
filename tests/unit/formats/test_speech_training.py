"""Networks that write down speech learn: their losses are of what they answer, and a tuned one opens again."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.core.dataset import Dataset
from headstart.core.errors import HubError
from headstart.objectives.transcribe import Transcribe
from headstart.pipelines import registry
from headstart.stages.networks import fetch, start
from headstart.stages.pretrained import pretrained
from tests.unit.pipelines.sounds import tone, write_wav2vec2, write_whisper

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("soundfile")

from headstart.core.progress import Quiet  # noqa: E402
from headstart.formats import _ctc  # noqa: E402
from headstart.formats.openvino import OpenVINO  # noqa: E402
from headstart.formats.torch import Torch  # noqa: E402
from headstart.training.tuned import saved  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

RATE = 16_000
PITCHES = {"la": 300.0, "mi": 700.0, "so": 1500.0}


def sung(words: str, seed: int = 0) -> dict[str, object]:
    """Return a recording in which each word is a tone of its own pitch."""
    rng = np.random.default_rng(seed)
    parts = []
    for word in words.split():
        at = np.arange(int(RATE * rng.uniform(0.25, 0.35))) / RATE
        parts += [np.zeros(1600), 0.3 * np.sin(2 * np.pi * PITCHES[word] * rng.uniform(0.95, 1.05) * at)]
    samples = np.concatenate([*parts, np.zeros(1600)])
    return {"samples": (samples + 0.01 * rng.standard_normal(len(samples))).astype(np.float32), "rate": RATE}


SONGS = ["la", "mi so", "so la mi", "mi mi", "la la so", "so", "mi la", "so so la mi"]
TABLE = {"audio": [sung(words, seed) for seed, words in enumerate(SONGS)], "transcript": SONGS}
OBJECTIVE = Transcribe.of(Dataset(TABLE, inputs={"audio": ["audio"]}), range(8), {})


def opened(reference: str, weights: str = "", **config):
    """Return a network made ready for the songs, and its session."""
    network = fetch(reference, "", Quiet(), weights)
    network = replace(network, **OBJECTIVE.ready(network))
    network = replace(network, config={**network.config, **config})
    torch.manual_seed(0)
    return network, Torch().open(network, "f32", 1)


def given(network, rows=range(8), epoch=None) -> dict[str, torch.Tensor]:
    batch = OBJECTIVE.examples(network, TABLE, 0).batch(np.array(rows), epoch)
    return {name: torch.from_numpy(each) for name, each in batch.items()}


def learn(network, session, steps: int, rate: float, varied: bool = False) -> list[float]:
    """Take some steps on all songs, and return the losses."""
    built = session.trainable()
    built.module.train()
    if hasattr(built.module, "freeze_feature_encoder"):
        built.module.freeze_feature_encoder()
    optimizer = torch.optim.AdamW([each for each in built.module.parameters() if each.requires_grad], lr=rate)
    losses, kept = [], given(network)
    for step in range(steps):
        loss = built.loss(given(network, epoch=step) if varied else kept)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(built.module.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    built.module.eval()
    return losses


def heard(network, session) -> list[str]:
    pipeline = registry.get("transcribe")()
    records = pipeline.run(network, session, TABLE["audio"], pipeline.settle(OBJECTIVE.options))
    return [each["text"] for each in records]


def alone(session, network) -> float:
    """Return the mean of each recording's CTC loss for a letter, from what `run` gives of it alone."""
    losses = []
    for row in range(8):
        arrays = {name: each.numpy() for name, each in given(network, [row]).items()}
        tokens = torch.from_numpy(arrays["tokens"])
        found = session.run({name: arrays[name] for name in ("samples", "lengths")})
        spelt = torch.from_numpy(found["logits"]).log_softmax(-1)[:, None]
        losses.append(torch.nn.functional.ctc_loss(spelt, tokens[None], [len(spelt)], [len(tokens)]).item())
    return float(np.mean(losses))


KINDS = {
    "wav2vec2 without a mask": ("Wav2Vec2", {"feat_extract_norm": "group"}),
    "wav2vec2 with a mask": ("Wav2Vec2", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "hubert": ("Hubert", {}),
    "wavlm": ("WavLM", {}),
    "unispeech-sat": ("UniSpeechSat", {}),
}


def write_kin(folder: Path, kind: str, settings: dict[str, object]) -> Path:
    """Save a tiny network of Wav2Vec2's family without letters, as after pretraining."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    convolutions = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **convolutions, **settings})
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_of_a_batch_is_that_of_each_recording_alone(name, tmp_path):
    network, session = opened(f"local:{write_kin(tmp_path / 'kin', *KINDS[name])}")
    built = session.trainable()
    assert built.module.lm_head.weight.shape[0] == len(network.labels) == 2 + len(set("lamiso"))
    with torch.no_grad():
        assert built.loss(given(network)).item() == pytest.approx(alone(session, network), rel=1e-4)
    # In training, what is hidden hangs on torch's seed alone; not on NumPy's, which the library uses.
    built.module.train()
    losses = []
    for seed in (1, 1, 2):
        np.random.seed(seed + len(losses))
        torch.manual_seed(seed)
        losses.append(built.loss(given(network)).item())
    assert losses[0] == losses[1] != losses[2]
    assert built.module.config.apply_spec_augment
    assert "forward" not in vars(built.module.base_model.feature_extractor)


def test_a_network_without_letters_learns_some_and_opens_again(tmp_path):
    network, session = opened(f"local:{write_kin(tmp_path / 'kin', *KINDS['wav2vec2 without a mask'])}")
    with pytest.raises(HubError):
        Torch().open(replace(fetch(f"local:{network.folder}", "", Quiet()), use="transcribe"), "f32", 1)
    losses = learn(network, session, 12, 3e-3)
    assert losses[-1] < 0.6 * losses[0]
    module = session.trainable().module
    assert not any(each.requires_grad for each in module.base_model.feature_extractor.parameters())
    module.lm_head.bias.data[0] = -100
    tuned = saved(network, module, tmp_path / "tuned", network.config)
    assert OBJECTIVE.ready(tuned) == {"use": "transcribe"}
    model = pretrained(f"local:{tmp_path / 'tuned'}")
    assert model.task == "transcribe"
    said = heard(network, session)
    assert (
        [each["text"] for each in model.predict(TABLE["audio"])] == said == heard(tuned, Torch().open(tuned, "f32", 1))
    )
    assert set("".join(said)) - {" "}
    # The library's own tokenizer reads the letters too.
    tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "tuned")
    arrays = {name: each.numpy() for name, each in given(network, [1]).items()}
    assert tokenizer.decode(session.run(arrays)["logits"].argmax(axis=1)) == said[1]


def test_a_network_keeps_its_own_letters(tmp_path):
    folder = write_wav2vec2(tmp_path / "own")
    own = pretrained(f"local:{folder}")
    table = {"audio": [{"samples": tone(2), "rate": RATE}], "transcript": ["the salt"]}
    objective = Transcribe.of(Dataset(table, inputs={"audio": ["audio"]}), [0], {})
    ready = replace(own.network, **objective.ready(own.network))
    session = Torch().open(ready, "f32", 1)
    before = Torch().open(own.network, "f32", 1)
    assert torch.equal(session.trainable().module.lm_head.weight, before.trainable().module.lm_head.weight)
    names = json.loads((folder / "vocab.json").read_text())
    batch = objective.examples(ready, table, 0).batch(np.array([0]))
    assert batch["tokens"].tolist() == [names[each] for each in "THE|SALT"]


def test_whispers_loss_is_the_librarys_own(tmp_path):
    folder = write_whisper(tmp_path / "whisper")
    network, session = opened(f"local:{folder}")
    built, batch = session.trainable(), given(network, [0, 2, 1])
    module = built.module
    module.generation_config.language = "de"
    named = {each: module.generation_config.lang_to_id[f"<|{each}|>"] for each in ("en", "de")}
    start, end = module.config.decoder_start_token_id, module.config.eos_token_id
    prefix = [
        named["de"],
        module.generation_config.task_to_id["transcribe"],
        module.generation_config.no_timestamps_token_id,
    ]
    texts = [each.tolist() for each in torch.split(batch["tokens"], batch["tokens_lengths"].tolist())]
    # The tokens are bytes; a space stands in front of each text.
    assert [len(each) for each in texts] == [len(SONGS[row]) + 1 for row in (0, 2, 1)]
    wanted = torch.full((3, 3 + max(map(len, texts)) + 1), -100)
    read = torch.full_like(wanted, module.config.pad_token_id)
    for row, text in enumerate(texts):
        wanted[row, 3 : 4 + len(text)] = torch.tensor([*text, end])
        read[row, : 4 + len(text)] = torch.tensor([start, *prefix, *text])
    with torch.no_grad():
        own = module(batch["mel"], decoder_input_ids=read, labels=wanted).loss.item()
        assert built.loss(batch).item() == pytest.approx(own, rel=1e-5)
        # Where no language is set, it is the one that the network hears.
        module.generation_config.language = None
        told = module.detect_language(batch["mel"], generation_config=module.generation_config)
        likeliest = [each for each in ("en", "de") if named[each] in told.tolist()]
        assert likeliest
        losses = []
        for each in likeliest:
            module.generation_config.language = each
            losses.append(built.loss(batch).item())
        module.generation_config.language = None
        assert min(losses) - 1e-4 <= built.loss(batch).item() <= max(losses) + 1e-4


def test_whisper_learns_with_times_and_without(tmp_path):
    network, session = opened(f"local:{write_whisper(tmp_path / 'whisper')}")
    losses = learn(network, session, 15, 3e-3)
    assert losses[-1] < 0.6 * losses[0]
    built, batch = session.trainable(), given(network)
    built.module.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(built.loss(batch).item())
    assert drawn[0] == drawn[1] != drawn[2]
    tuned = saved(network, built.module.eval(), tmp_path / "tuned")
    assert heard(tuned, Torch().open(tuned, "f32", 1)) == heard(network, session)


@pytest.mark.parametrize("front", ["small", "silero"])
def test_a_small_networks_answer_depends_on_nothing_beside_it(front, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    network, session = opened(f"builtin:ctc-{front}", weights=_detector(tmp_path))
    with torch.no_grad():
        assert session.trainable().loss(given(network)).item() == pytest.approx(alone(session, network), rel=1e-4)
    arrays = {name: each.numpy() for name, each in given(network).items()}
    found = session.run(arrays)
    counted = [OBJECTIVE.examples(network, TABLE, 0).frames(int(each)) for each in arrays["lengths"]]
    assert found["frames"].tolist() == counted
    assert len(found["logits"]) == sum(counted)
    tiny = {"samples": np.ones(10, np.float32), "lengths": np.array([10])}
    assert len(session.run(tiny)["logits"]) == 1


@pytest.mark.parametrize("front", ["small", "silero"])
def test_a_small_network_runs_without_pytorch_as_with_it(front, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    network, session = opened(f"builtin:ctc-{front}", weights=_detector(tmp_path))
    assert OpenVINO().supports(network) == "it has no weights yet"
    tuned = saved(network, session.trainable().module, tmp_path / "tuned", network.config)
    found = start(tuned)
    assert found.format == "openvino"
    arrays = {name: each.numpy() for name, each in given(network).items()}
    arrays["lengths"] = np.array([*arrays["lengths"], 10])
    arrays["samples"] = np.concatenate([arrays["samples"], np.ones(10, np.float32)])
    theirs, ours = session.run(arrays), found.session.run(arrays)
    assert ours["frames"].tolist() == theirs["frames"].tolist()
    np.testing.assert_allclose(ours["logits"], theirs["logits"], atol=1e-4)
    if importlib.util.find_spec("nncf"):
        small = start(OpenVINO().compress(tuned, "int8", [arrays], tmp_path / "int8")).session.run(arrays)
        apart = np.abs(small["logits"] - theirs["logits"]).max()
        assert 0 < apart < 0.2 * np.abs(theirs["logits"]).max()


def _detector(folder: Path) -> str:
    """Save random weights as those of Silero's detector are called."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file({**_ctc.Voice().state_dict(), "final_conv.weight": torch.zeros(1, 128, 1)}, folder / "d.safetensors")
    return str(folder / "d.safetensors")


def test_a_detectors_features_are_its_own_at_every_fourth_frame():
    torch.manual_seed(0)
    voice, samples = _ctc.Voice().eval(), torch.randn(1, 8000)
    functional = torch.nn.functional
    with torch.no_grad():
        frames = torch.tensor([61])
        dense = voice.layers(samples, frames)[-1]
        both = voice.stft_conv(samples[:, None])
        inner = (both[:, :129] ** 2 + both[:, 129:] ** 2).sqrt()
        for number, stride in ((1, 1), (2, 2), (3, 2), (4, 1)):
            layer = getattr(voice, f"conv{number}")
            inner = functional.conv1d(inner, layer.weight, layer.bias, stride=stride, padding=1).relu()
    assert dense.shape == (1, 128, 61)
    assert torch.allclose(dense[:, :, ::4][:, :, : inner.shape[2]], inner, atol=1e-5)


def test_a_small_network_learns_songs_by_heart_and_opens_again(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    with pytest.raises(HubError, match="not been trained yet"):
        pretrained("builtin:ctc-small")
    network, session = opened("builtin:ctc-small", width=64, layers=1)
    again = opened("builtin:ctc-small", width=64, layers=1)[1]
    assert torch.equal(*(each.trainable().module.out.weight for each in (session, again)))
    learn(network, session, 120, 8e-3)
    assert heard(network, session) == SONGS
    tuned = saved(network, session.trainable().module, tmp_path / "tuned", network.config)
    model = pretrained(f"local:{tmp_path / 'tuned'}")
    assert [each["text"] for each in model.predict(TABLE["audio"])] == SONGS
    assert OBJECTIVE.ready(model.network) == {"use": "transcribe"}
    assert heard(tuned, Torch().open(tuned, "f32", 1)) == SONGS
    # Other letters: a new last layer on all that was learnt before.
    other = replace(model.network, labels=("<pad>", "|", "x"))
    module = Torch().open(other, "f32", 1).trainable().module
    assert module.out.weight.shape[0] == 3
    assert torch.equal(module.lower.weight, session.trainable().module.lower.weight)


def test_a_voice_detectors_encoder_needs_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    with pytest.raises(HubError, match="--weights FILE"):
        opened("builtin:ctc-silero")
    network, session = opened("builtin:ctc-silero", weights=_detector(tmp_path))
    losses = learn(network, session, 5, 3e-3)
    assert losses[-1] < losses[0]
    front = session.trainable().module.front
    torch.manual_seed(0)
    assert torch.equal(front.conv1.weight, _ctc.Voice().conv1.weight)
