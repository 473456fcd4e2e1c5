"""Tiny networks in the real file layout, with random weights, for tests without a download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = tuple(
    "my order has not arrived yet where is the parcel refund invoice password reset please thanks a to".split()  # noqa: SIM905
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_bert(
    folder: Path, *, width: int = 32, layers: int = 2, heads: int = 4, channels: int = 0, seed: int = 0
) -> Path:
    """Write a BERT encoder with mean pooling as transformers and sentence-transformers lay it out.

    Args:
        width: of the embedding.
        channels: of the feed-forward part; 0 makes it twice as wide as the embedding.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": width,
        "intermediate_size": channels or 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "vocab_size": len(SPECIAL) + len(WORDS),
        "pad_token_id": 0,
    }
    save_file(_weights(config, rng), folder / "model.safetensors")
    _json(folder / "config.json", config)
    _json(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
    )
    _json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True})
    _json(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    _tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def _weights(config: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    width, inner = config["hidden_size"], config["intermediate_size"]

    def drawn(*shape: int) -> np.ndarray:
        return (0.3 * rng.standard_normal(shape)).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": drawn(config["vocab_size"], width),
        "embeddings.position_embeddings.weight": drawn(config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": drawn(2, width),
    }

    def norm(name: str) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + drawn(width), drawn(width)

    def linear(name: str, out: int, into: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = drawn(out, into), drawn(out)

    norm("embeddings.LayerNorm")
    for each in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{each}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", width, width)
        linear(f"{layer}.attention.output.dense", width, width)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", inner, width)
        linear(f"{layer}.output.dense", width, inner)
        norm(f"{layer}.output.LayerNorm")
    return weights


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    )
    return tokenizer


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
