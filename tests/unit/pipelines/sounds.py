"""Tiny random networks that hear, saved in the library's own layout, and sounds for them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

LETTERS = "|ETAONIHSRDLU"
CONTROLS = ("endoftext", "startoftranscript", "en", "de", "translate", "transcribe", "startoflm", "startofprev",
            "nospeech", "notimestamps")  # fmt: skip


def tone(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """Return a sliding tone with noise, (n,) float32."""
    at = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(at))
    return (0.3 * np.sin(2 * np.pi * (200 + 60 * at) * at) + 0.05 * noise).astype(np.float32)


def file(samples: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """Return samples as a sound file."""
    import soundfile

    held = io.BytesIO()
    soundfile.write(held, samples, rate, format=kind, subtype=subtype)
    return held.getvalue()


def write_wav2vec2(folder: Path, head: str = "ForCTC", **settings: object) -> Path:
    """Save a Wav2Vec2 whose letters change from frame to frame."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    convolutions = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    config = transformers.Wav2Vec2Config(
        vocab_size=4 + len(LETTERS),
        classifier_proj_size=16,
        id2label={0: "noise", 1: "music", 2: "speech"},
        **{**sizes, **convolutions, **settings},
    )
    model = getattr(transformers, f"Wav2Vec2{head}")(config).eval()
    if head == "ForCTC":
        model.lm_head.weight.data.normal_(0, 1.5)
        model.lm_head.bias.data[1:4] = -100
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    names = {name: number for number, name in enumerate(["<pad>", "<s>", "</s>", "<unk>", *LETTERS])}
    (folder / "vocab.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


def write_whisper(folder: Path) -> Path:
    """Save a Whisper that knows two languages and writes times."""
    import torch
    import transformers
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    torch.manual_seed(0)
    alphabet = {each: number for number, each in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in CONTROLS])
    tokenizer.add_tokens([f"<|{number * 0.02:.2f}|>" for number in range(1501)])
    number = {name: tokenizer.token_to_id(f"<|{name}|>") for name in CONTROLS}
    config = transformers.WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=16,
        max_target_positions=64,
        decoder_start_token_id=number["startoftranscript"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
        **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")},
        **{f"{part}_token_id": number["endoftext"] for part in ("pad", "bos", "eos")},
    )
    model = transformers.WhisperForConditionalGeneration(config).eval()
    for each in model.model.decoder.parameters():
        each.data.mul_(8)
    settings = {
        "is_multilingual": True,
        "lang_to_id": {f"<|{name}|>": number[name] for name in ("en", "de")},
        "task_to_id": {name: number[name] for name in ("transcribe", "translate")},
        "no_timestamps_token_id": number["notimestamps"],
        "prev_sot_token_id": number["startofprev"],
        "max_initial_timestamp_index": 50,
        "max_length": 20,
        "_from_model_config": False,
    }
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
