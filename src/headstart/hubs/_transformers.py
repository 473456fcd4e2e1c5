"""What a transformers `config.json` says a model is: what it reads, what it does, how wide it is, its classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.hubs._json import read_json

_AUDIO = (
    "audio-spectrogram-transformer clap data2vec-audio granite_speech hubert mctct moonshine parakeet_ctc sew sew-d "
    "speech_to_text unispeech unispeech-sat wav2vec2 wav2vec2-bert wav2vec2-conformer wavlm whisper"
)
_IMAGE = (
    "beit bit conditional_detr convnext convnextv2 cvt d_fine data2vec-vision deformable_detr deit detr dinat dinov2 "
    "dinov2_with_registers dinov3_convnext dinov3_vit efficientnet focalnet hgnet_v2 hiera ijepa levit mobilenet_v1 "
    "mobilenet_v2 mobilevit mobilevitv2 poolformer pvt pvt_v2 regnet resnet rt_detr rt_detr_v2 segformer swiftformer "
    "swin swinv2 table-transformer timm_wrapper vit vit_mae vit_msn yolos"
)
AUDIO = frozenset(_AUDIO.split())
"""Model types that read sound."""
IMAGE = frozenset(_IMAGE.split())
"""Model types that read pictures."""
MADE_FOR = {
    "ForMaskedLM": ("fill_mask", "embed"),
    "ForPreTraining": ("fill_mask", "embed"),
    "WithLMHeadModel": ("fill_mask", "embed"),
    "ForSequenceClassification": ("classify", "embed"),
    "ForImageClassification": ("classify", "embed"),
    "ForAudioClassification": ("classify", "embed"),
    "ForTokenClassification": ("tag_tokens", "embed"),
    "ForQuestionAnswering": ("answer", "embed"),
    "ForCausalLM": ("generate", "embed"),
    "LMHeadModel": ("generate", "embed"),
    "ForConditionalGeneration": ("generate",),
    "ForSpeechSeq2Seq": ("transcribe",),
    "ForCTC": ("transcribe", "embed"),
    "ForObjectDetection": ("detect",),
}
"""What an architecture is made for, by how its class name ends; the first end that fits is taken."""
SPOKEN = {"generate": "transcribe"}
WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "hidden_dim")
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
PADDED = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "data2vec-text")
"""Model types whose positions begin after the padding token's number."""
UNBOUNDED = 512
"""Tokens that are read where a model has no limit of its own."""


def modality_of(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> str:
    """Return what a model reads: `text`, `image` or `audio`."""
    kind = str(config.get("model_type", ""))
    if kind in AUDIO or (preprocessor.get("sampling_rate") and kind not in IMAGE):
        return "audio"
    if kind in IMAGE or "vision_config" in config or "image_mean" in preprocessor:
        return "image"
    return "text"


def uses_of(config: Mapping[str, Any], modality: str, encoder: bool) -> tuple[str, ...]:
    """Return what a model does as it is, the usual first.

    Args:
        config: its `config.json`.
        modality: what it reads.
        encoder: whether sentence-transformers wrote it, so that vectors are what it is made for.
    """
    name = str((config.get("architectures") or [""])[0])
    found: tuple[str, ...] = next((uses for end, uses in MADE_FOR.items() if name.endswith(end)), ("embed",))
    if modality == "audio":
        found = tuple(dict.fromkeys([*(SPOKEN.get(each, each) for each in found), "embed"]))
    if found[0] == "classify" and any("entail" in each.casefold() for each in labels_of(config)):
        found = ("classify", "zero_shot", "embed")
    return ("embed", *(each for each in found if each != "embed")) if encoder else found


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a model's own classes, by number."""
    named = config.get("id2label")
    if not isinstance(named, Mapping):
        return ()
    try:
        return tuple(str(named[key]) for key in sorted(named, key=int))
    except ValueError:
        return ()


def width_of(config: Mapping[str, Any]) -> int:
    """Return how many numbers a model's vectors have; 0 where the configuration does not say."""
    for each in (config, config.get("text_config"), config.get("vision_config")):
        if not isinstance(each, Mapping):
            continue
        for name in WIDTHS:
            if isinstance(each.get(name), int):
                return int(each[name])
        sizes = each.get("hidden_sizes")
        if isinstance(sizes, list) and sizes:
            return int(sizes[-1])
        if isinstance(each.get("embed_dim"), int) and isinstance(each.get("depths"), list):
            return int(each["embed_dim"]) << (len(each["depths"]) - 1)
    return 0


def max_length(folder: Path, config: Mapping[str, Any], limit: int | None) -> int:
    """Return how many tokens a model reads at most.

    Args:
        folder: where `tokenizer_config.json` may be.
        config: its `config.json`.
        limit: sentence-transformers' own limit, where it wrote one.
    """
    inner = config.get("text_config")
    every = {**inner, **config} if isinstance(inner, Mapping) else config
    positions = next((int(every[name]) for name in LENGTHS if isinstance(every.get(name), int)), UNBOUNDED)
    if every.get("model_type") in PADDED:
        positions -= int(every.get("pad_token_id") or 1) + 1
    told = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    lengths = [limit, positions, told.get("model_max_length")]
    return int(min(each for each in lengths if isinstance(each, (int, float)) and each > 0))


def preprocessor_of(folder: Path) -> dict[str, Any]:
    """Return the settings of a folder's image processor or feature extractor; nothing where it has none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            told = read_json(folder / name)
            inner = told.get("image_processor") or told.get("feature_extractor")
            if isinstance(inner, dict):
                return inner
            if name == "preprocessor_config.json":
                return dict(told)
    return {}
