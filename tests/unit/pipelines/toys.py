"""Tiny random models of the transformers library, saved in its own layout, with tokenizers trained on a few lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from headstart.core.arrays import Session
from headstart.core.backbone import Backbone, Network
from headstart.formats.torch import Torch
from headstart.hubs._folder import open_folder

CORPUS = [
    "The goal of AI is to replace human intelligence, some say; to extend it, say others.",
    "Angela Merkel visited Paris in May. The Eiffel Tower stands in Paris, France.",
    "My order has not arrived yet, and nobody answers my letters!",
    "Who wrote the letters? Ada Lovelace wrote them in London, in 1843.",
    "once upon a time there was a king who had three daughters and no umbrella",
    "caf\u00e9 na\u00efve \u732b \U0001f431 r\u00e9sum\u00e9",
]
LONG = " ".join(CORPUS[:4] * 30)


def wordpiece(folder: Path) -> int:
    """Save a BERT tokenizer, and return how many tokens it has.

    Its vocabulary is written out: what the library's trainer makes of equally frequent pairs differs each time.
    """
    named = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normal, split = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = sorted({word for text in CORPUS for word, _ in split.pre_tokenize_str(normal.normalize_str(text))})
    letters = sorted({letter for word in words for letter in word})
    ends = sorted({f"##{word[-3:]}" for word in words if len(word) > 5})
    known = dict.fromkeys([*named, *letters, *(f"##{each}" for each in letters), *ends, *words[::2]])
    tokenizer = Tokenizer(models.WordPiece({each: at for at, each in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normal, split
    tokenizer.add_special_tokens(named)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.WordPiece()
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 64, "do_lower_case": True}
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), named, strict=True))
    return _save(folder, tokenizer, settings | {f"{name}_token": each for name, each in names.items()})


def bytes_(folder: Path, size: int = 300, **more: Any) -> int:
    """Save a GPT-2 tokenizer, or a RoBERTa one with `roberta=True`."""
    roberta = more.pop("roberta", False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = ["<s>", "<pad>", "</s>", "<unk>"] if roberta else ["<|endoftext|>", *more.pop("extra", [])]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=named, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if roberta:
        from tokenizers import AddedToken

        tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        names = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>"}
        settings: dict[str, Any] = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 64}
        settings["mask_token"] = {"content": "<mask>", "lstrip": True, "__type": "AddedToken"}
    else:
        names = {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64}
    return _save(folder, tokenizer, settings | {f"{name}_token": each for name, each in names.items()} | more)


def _save(folder: Path, tokenizer: Tokenizer, settings: dict[str, Any]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return tokenizer.get_vocab_size()


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}


def bert(folder: Path, name: str, **settings: Any) -> Path:
    """Save a BERT with the head `name`, such as `BertForMaskedLM`."""
    import transformers

    config = transformers.BertConfig(**SMALL | {"vocab_size": wordpiece(folder)} | settings)
    return saved(folder, getattr(transformers, name)(config))


def roberta(folder: Path, name: str, **settings: Any) -> Path:
    """Save a RoBERTa with the head `name`."""
    import transformers

    size = bytes_(folder, roberta=True)
    config = transformers.RobertaConfig(**SMALL | {"max_position_embeddings": 66, "vocab_size": size} | settings)
    return saved(folder, getattr(transformers, name)(config))


def gpt2(folder: Path, name: str = "GPT2LMHeadModel", **settings: Any) -> Path:
    """Save a GPT-2."""
    import transformers

    config = transformers.GPT2Config(
        vocab_size=bytes_(folder), n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0,
        **settings,
    )  # fmt: skip
    return saved(folder, getattr(transformers, name)(config))


CHAT = (
    "{%- for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)


def llama(folder: Path, **settings: Any) -> Path:
    """Save a Llama with a chat template."""
    import transformers

    extra = {"extra": ["<|im_start|>", "<|im_end|>"], "chat_template": CHAT, "model_max_length": 128}
    given = {"num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 2}
    config = transformers.LlamaConfig(**SMALL | {"vocab_size": bytes_(folder, **extra)} | given | settings)
    return saved(folder, transformers.LlamaForCausalLM(config))


def saved(folder: Path, model: Any) -> Path:
    """Save a model whose random weights are large enough for its answers to differ."""
    import torch
    import transformers

    torch.manual_seed(0)
    for each in model.parameters():
        if each.ndim > 1:
            torch.nn.init.normal_(each, std=0.4)
    model.tie_weights()
    transformers.utils.logging.disable_progress_bar()
    model.eval().save_pretrained(folder)
    return folder


def opened(folder: Path, use: str) -> tuple[Network, Session]:
    """Open a folder for one use, with PyTorch on one thread."""
    from dataclasses import replace

    network = replace(open_folder(folder, Backbone("local", str(folder))), use=use)
    return network, Torch().open(network, "f32", 1)
