"""How transformers' networks that write down speech are trained: letters of their own, and their losses."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from headstart.core.backbone import Network
from headstart.formats._ctc import ctc_loss
from headstart.formats._transformers import torch

__all__ = ["ctc_loss", "give_letters", "logits", "new_letters", "writing_loss"]

BLANK = "<pad>"
"""The letter of number 0 in alphabets that were learnt here."""
RATE = 16_000
TICK = 0.02
"""Seconds between two of Whisper's times."""
UNREAD = -100


def new_letters(network: Network) -> Sequence[str]:
    """Return the letters that a network is to learn, which its checkpoint does not know; none where it knows them."""
    if network.use != "transcribe" or not network.labels or network.labels[0] != BLANK:
        return ()
    named = json.loads((network.folder / "config.json").read_text(encoding="utf-8")).get("id2label") or {}
    known = [named.get(str(number)) for number in range(len(named))]
    return () if known == list(network.labels) else network.labels


def give_letters(module: Any, letters: Sequence[str]) -> None:
    """Give a CTC network a new last layer, always the same one, for other letters."""
    config, old = module.config, module.lm_head
    layer = torch.nn.Linear(old.in_features, len(letters))
    made = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(layer.weight, std=float(getattr(config, "initializer_range", 0.02)), generator=made)
    torch.nn.init.zeros_(layer.bias)
    module.lm_head = layer.to(old.weight.dtype)
    config.vocab_size, config.pad_token_id, config.architectures = len(letters), 0, [type(module).__name__]
    config.id2label = dict(enumerate(letters))
    config.label2id = {letter: number for number, letter in enumerate(letters)}
    # As transformers' own tokenizer reads them.
    tokenizer: dict[str, Any] = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "pad_token": letters[0],
        "unk_token": letters[0],
    }
    tokenizer |= {"word_delimiter_token": letters[1], "bos_token": None, "eos_token": None}
    module.beside = {"vocab.json": config.label2id, "tokenizer_config.json": tokenizer}


def logits(module: Any, clips: Sequence[Any]) -> tuple[Any, Any]:
    """Return logits (n, frames, letters) and frames (n,) of recordings of several lengths, as each gives alone.

    Many of these networks were trained without a mask, and padding would change what their convolutions give. So those
    read each length by itself, and the layers behind them all of it, masked.
    """
    lengths = torch.tensor([len(each) for each in clips])
    samples = torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    mask = (torch.arange(samples.shape[1]) < lengths[:, None]).long().to(samples.device)
    with _apart(module, clips), warnings.catch_warnings():
        # The library gives WavLM's attention two masks of different types.
        warnings.filterwarnings("ignore", "Support for mismatched")
        output = module(samples, attention_mask=mask)
    frames = module._get_feat_extract_output_lengths(lengths).long()
    return output.logits, frames.clamp(max=output.logits.shape[1]).to(samples.device)


@contextmanager
def _apart(module: Any, clips: Sequence[Any]) -> Iterator[None]:
    """Let the convolutions read recordings length by length; what is hidden in training, torch's seed decides."""
    extractor, config = module.base_model.feature_extractor, module.config
    inner = type(extractor).forward
    hides = bool(getattr(config, "apply_spec_augment", False))

    def forward(samples: Any) -> Any:
        found: dict[int, Any] = {}
        for length in sorted({len(clip) for clip in clips}):
            rows = [row for row, clip in enumerate(clips) if len(clip) == length]
            found |= dict(zip(rows, inner(extractor, samples[rows, :length]), strict=True))
        values = [found[row].transpose(0, 1) for row in range(len(clips))]
        if module.training and hides:
            values = [_hidden(each, float(config.mask_time_prob), int(config.mask_time_length)) for each in values]
        return torch.nn.utils.rnn.pad_sequence(values, batch_first=True).transpose(1, 2)

    extractor.forward, config.apply_spec_augment = forward, False
    try:
        yield
    finally:
        del extractor.forward
        config.apply_spec_augment = hides


def _hidden(values: Any, share: float, length: int) -> Any:
    """Return features (frames, width) with stretches of `length` frames hidden that begin at `share` / `length`."""
    begins = torch.rand(len(values)) < share / max(length, 1)
    kernel = torch.ones(1, 1, length)
    covered = torch.nn.functional.conv1d(begins.float()[None, None], kernel, padding=length - 1)[0, 0, : len(values)]
    return values.masked_fill((covered > 0).to(values.device)[:, None], 0.0)


def writing_loss(module: Any, arrays: Mapping[str, Any]) -> Any:
    """Return the mean loss () of each next token of Whisper, which reads the tokens before it as they should be.

    What stands before a text (language, task) is read and not learnt. In training every other text, by chance, stands
    between times, as `generate` asks for them; the last is learnt: the end of what was recorded.

    Args:
        module: WhisperForConditionalGeneration.
        arrays: `mel` (n, bands, frames), `lengths` (n,) in samples, `tokens` (flat) and `tokens_lengths` (n,).
    """
    hidden = module.get_encoder()(arrays["mel"])
    texts = torch.split(arrays["tokens"].long(), arrays["tokens_lengths"].tolist())
    languages = _languages(module, hidden)
    timed = torch.rand(len(texts)) < 0.5 if module.training else torch.zeros(len(texts), dtype=torch.bool)
    rows, answers = [], []
    for number, text in enumerate(texts):
        seconds = float(arrays["lengths"][number]) / RATE if timed[number] else None
        before, after = _frame(module, languages[number], seconds)
        whole = torch.cat([text.new_tensor(before), text, text.new_tensor(after)])
        answer = whole[1:].clone()
        answer[: len(before) - 1] = UNREAD
        rows.append(whole[:-1])
        answers.append(answer)
    fill = int(module.config.pad_token_id or 0)
    read = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
    wanted = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=UNREAD)
    output = module(encoder_outputs=hidden, decoder_input_ids=read, use_cache=False).logits
    return torch.nn.functional.cross_entropy(output.float().flatten(0, 1), wanted.flatten(), ignore_index=UNREAD)


def _frame(module: Any, language: int | None, seconds: float | None) -> tuple[list[int], list[int]]:
    """Return the tokens before a text and those after it; with times where `seconds` is its length."""
    told = module.generation_config
    before = [int(module.config.decoder_start_token_id)]
    if language is not None:
        before += [language, int(told.task_to_id["transcribe"])]
    end = [_first(module.config.eos_token_id)]
    silent = getattr(told, "no_timestamps_token_id", None)
    if silent is None:
        return before, end
    if seconds is None:
        return [*before, int(silent)], end
    # Times follow the token that says: none.
    return [*before, int(silent) + 1], [int(silent) + 1 + min(round(seconds / TICK), 1500), *end]


def _first(number: Any) -> int:
    return int(number[0] if isinstance(number, (list, tuple)) else number)


def _languages(module: Any, hidden: Any) -> list[int | None]:
    """Return the token of each recording's language: the one that is set, else the likeliest; None where it has one."""
    told = module.generation_config
    known = getattr(told, "lang_to_id", None) or {}
    count = len(hidden.last_hidden_state)
    if not known:
        return [None] * count
    chosen = getattr(told, "language", None)
    if chosen:
        return [int(known[f"<|{chosen}|>" if f"<|{chosen}|>" in known else chosen])] * count
    numbers = torch.tensor(sorted(known.values()), device=hidden.last_hidden_state.device)
    start = numbers.new_full((count, 1), int(module.config.decoder_start_token_id))
    with torch.no_grad():
        scores = module(encoder_outputs=hidden, decoder_input_ids=start, use_cache=False).logits[:, -1]
    return [int(each) for each in numbers[scores[:, numbers].argmax(dim=1)]]
