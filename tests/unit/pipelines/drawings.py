"""Tiny random text-to-image pipelines, saved in the layout of diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LETTERS = "abcdefg"
TEXT = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
NUMBERS = {"max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


def _tokenizer(folder: Path) -> Any:
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{each}</w>" for each in LETTERS), *LETTERS]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=16)


def write_stable_diffusion(folder: Path) -> Path:
    """Save a Stable Diffusion that draws 16 x 16 pixels."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(0)
    blocks: dict[str, Any] = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
    diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, **blocks
        ),
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT, **NUMBERS)),
        tokenizer=_tokenizer(folder / "words"),
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            cross_attention_dim=16,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            **blocks,
        ),
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "sd")
    return folder / "sd"


def write_unclip(folder: Path) -> Path:
    """Save an unCLIP that draws 32 x 32 pixels, as folders on the hub name its parts."""
    import diffusers
    import torch
    import transformers
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    torch.manual_seed(0)
    blocks: dict[str, Any] = {"block_out_channels": (16, 32), "norm_num_groups": 8, "layers_per_block": 1}

    def larger() -> Any:
        kinds = {"down_block_types": ("ResnetDownsampleBlock2D",) * 2, "up_block_types": ("ResnetUpsampleBlock2D",) * 2}
        return diffusers.UNet2DModel(
            sample_size=32, in_channels=6, out_channels=3, add_attention=False, **kinds, **blocks
        )

    def scheduler(variance: str, predicts: str) -> Any:
        return diffusers.UnCLIPScheduler(variance_type=variance, prediction_type=predicts)

    diffusers.UnCLIPPipeline(
        prior=diffusers.PriorTransformer(2, 8, 1, embedding_dim=16, num_embeddings=16, additional_embeddings=4),
        decoder=diffusers.UNet2DConditionModel(
            sample_size=16,
            in_channels=3,
            out_channels=6,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            cross_attention_dim=16,
            attention_head_dim=8,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
            **blocks,
        ),
        text_encoder=transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(**TEXT, **NUMBERS, projection_dim=16)
        ),
        tokenizer=_tokenizer(folder / "words"),
        text_proj=UnCLIPTextProjModel(clip_embeddings_dim=16, time_embed_dim=64, cross_attention_dim=16),
        super_res_first=larger(),
        super_res_last=larger(),
        prior_scheduler=scheduler("fixed_small_log", "sample"),
        decoder_scheduler=scheduler("learned_range", "epsilon"),
        super_res_scheduler=scheduler("fixed_small_log", "epsilon"),
    ).save_pretrained(folder / "unclip")
    index = folder / "unclip" / "model_index.json"
    named = json.loads(index.read_text()) | {"text_proj": ["unclip", "UnCLIPTextProjModel"]}
    index.write_text(json.dumps(named))
    return folder / "unclip"
