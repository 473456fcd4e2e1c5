"""Build transformers' networks that read sound: Wav2Vec2 and its kin, and Whisper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headstart.core.backbone import Network
from headstart.core.errors import HubError, listed
from headstart.formats import _spoken, _whisper
from headstart.formats._transformers import cache_of, load, quiet, torch, transformers
from headstart.formats._wav2vec2 import FAMILY, alike, least


def unsupported(network: Network) -> str:
    """Return an empty string, or why a network that reads sound cannot be built."""
    known = (*FAMILY, "whisper")
    kind = str(network.config.get("model_type", ""))
    return "" if kind in known else f"its architecture is '{kind}', not one of {listed(known)}"


def build(network: Network) -> Samples | Whisper:
    """Build the network that the use asks for, with its weights.

    Raises:
        HubError: its architecture is unknown, or its weights cannot be read.
    """
    reason = unsupported(network)
    if reason:
        raise HubError(f"'{network.backbone.reference}' cannot be opened: {reason}.")
    return Whisper(network) if network.config.get("model_type") == "whisper" else Samples(network)


class Samples:
    """A network of Wav2Vec2's family: `samples` (flat) and `lengths` (n,) in; what its use gives out."""

    def __init__(self, network: Network) -> None:
        kinds = {"transcribe": "AutoModelForCTC", "classify": "AutoModelForAudioClassification"}
        self.use = network.use
        kind = getattr(transformers, kinds.get(network.use, "AutoModel"))
        letters = _spoken.new_letters(network)
        # It covers what is hidden in training only.
        self.module = load(network, kind, needless=("masked_spec_embed", *(("lm_head",) if letters else ())))
        if letters:
            _spoken.give_letters(self.module, letters)
        self.least = least(network.config)

    def run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return `embedding` (n, width), `logits` (n, classes), or `logits` (frames, tokens) and `frames` (n,)."""
        padded = self._padded(arrays)
        found: dict[int, Any] = {}
        for rows in alike([len(clip) for clip in padded], self.least).values():
            found |= dict(zip(rows, self.values(torch.stack([padded[row] for row in rows])), strict=True))
        ordered = [found[row] for row in range(len(padded))]
        if self.use == "transcribe":
            return {"logits": torch.cat(ordered), "frames": torch.tensor([len(each) for each in ordered])}
        return {"embedding" if self.use == "embed" else "logits": torch.stack(ordered)}

    def values(self, samples: Any) -> Any:
        """Return what the use asks for of recordings of one length (n, samples): (n, …)."""
        output = self.module(samples)
        return output.last_hidden_state.mean(dim=1) if self.use == "embed" else output.logits

    def _padded(self, arrays: Mapping[str, Any]) -> list[Any]:
        clips = torch.split(arrays["samples"], arrays["lengths"].tolist())
        return [torch.nn.functional.pad(clip, (0, max(0, self.least - len(clip)))) for clip in clips]

    def loss(self, arrays: Mapping[str, Any]) -> Any:
        """Return the CTC loss () of `tokens` (flat) and `tokens_lengths` (n,), of the same logits as `run` gives.

        In training, parts of the recordings are hidden by chance, where the network's configuration says so.
        """
        logits, frames = _spoken.logits(self.module, self._padded(arrays))
        return _spoken.ctc_loss(logits, frames, arrays, int(self.module.config.pad_token_id or 0))


class Whisper:
    """Whisper: `mel` (n, bands, frames) and `lengths` (n,), in samples, in; it embeds, classifies, and writes text."""

    def __init__(self, network: Network) -> None:
        kinds = {"transcribe": "WhisperForConditionalGeneration", "classify": "WhisperForAudioClassification"}
        self.use = network.use
        self.module = load(network, getattr(transformers, kinds.get(network.use, "WhisperModel")))
        self.hop = 2 * int(network.preprocessing.get("hop_length", 160))

    def run(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return `embedding` (n, width), the mean over what was spoken, not over the filling; or `logits`."""
        frames = (arrays["lengths"].long() + self.hop - 1).div(self.hop, rounding_mode="floor")
        return {"logits" if self.use == "classify" else "embedding": self.values(arrays["mel"], frames)}

    def values(self, mel: Any, frames: Any) -> Any:
        """Return what the use asks for, where so many frames (n,) of what the encoder gives were spoken."""
        if self.use == "classify":
            return self.module(mel).logits
        hidden = self.module.get_encoder()(mel).last_hidden_state
        frames = frames.clamp(1, hidden.shape[1])
        kept = torch.arange(hidden.shape[1], device=hidden.device) < frames[:, None]
        return (hidden * kept[..., None]).sum(dim=1) / frames[:, None]

    def onwards(self, mel: Any, ids: Any, position: Any, mask: Any, wanted: Any, *held: Any) -> tuple[Any, ...]:
        """Return logits (n, k, vocabulary), then keys and values of the decoder, and those of what is in `mel`.

        The decoder does not read `mel`, but what was made of it before.

        Args:
            mel: (m, bands, frames).
            ids, position: (n, tokens) of what the decoder reads now.
            mask: (n, 1, tokens, all) what is added to the scores of its attention to texts.
            wanted: (n, k) places among the tokens.
            held: keys and values (n, heads, frames, width) of what was heard, in turns for each layer; then those
                (n, heads, before, width) of what the decoder has read.
        """
        decoder, heard = self.module.get_decoder(), 2 * self.module.config.decoder_layers
        hidden, made = self.module.get_encoder()(mel).last_hidden_state, []
        for layer in decoder.layers:
            attention = layer.encoder_attn
            for project in (attention.k_proj, attention.v_proj):
                each = project(hidden).view(hidden.shape[0], -1, attention.num_heads, attention.head_dim)
                made.append(each.transpose(1, 2))
        cache = transformers.EncoderDecoderCache(cache_of(held[heard:]), cache_of(held[:heard]))
        read = {"input_ids": ids, "attention_mask": mask, "position_ids": position, "use_cache": True}
        # It takes keys and values of what was heard from the cache; that there are any, it is told by this.
        output = decoder(**read, encoder_hidden_states=held[0], past_key_values=cache).last_hidden_state
        chosen = output.gather(1, wanted[:, :, None].expand(-1, -1, output.shape[2]))
        own = [each for layer in cache.self_attention_cache.layers for each in (layer.keys, layer.values)]
        return (self.module.proj_out(chosen), *own, *made)

    def loss(self, arrays: Mapping[str, Any]) -> Any:
        """Return the mean loss () of the next token, where `tokens` (flat), `tokens_lengths` (n,) are the texts."""
        return _spoken.writing_loss(self.module, arrays)

    def generate(self, arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield `tokens` (t,), `start` and `end` () in seconds, of each stretch of one window's text.

        Args:
            arrays: `mel` (1, bands, frames).
            settings: `language` (a code, or None for: find out), `timestamps`, and `max_tokens` (None: the network's).

        Raises:
            UsageError: it does not know the language.
        """
        chosen = self._chosen(settings)
        timed = getattr(self.module.generation_config, "no_timestamps_token_id", None) is not None
        with quiet():
            made = self.module.generate(
                arrays["mel"],
                return_timestamps=timed and bool(settings.get("timestamps")),
                return_segments=True,
                **chosen,
            )
        # What stands at and above the end of text is no text: tasks, languages, times.
        end = self.module.generation_config.eos_token_id
        highest = end[0] if isinstance(end, list) else end
        for segment in made["segments"][0]:
            tokens = segment["tokens"]
            yield {
                "tokens": tokens[tokens < highest],
                "start": torch.as_tensor(float(segment["start"])),
                "end": torch.as_tensor(float(segment["end"])),
            }

    def _chosen(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        known = _whisper.codes({"lang_to_id": getattr(self.module.generation_config, "lang_to_id", None)})
        language = _whisper.code(settings.get("language"), list(known))
        chosen: dict[str, Any] = {"task": "transcribe", "language": language} if known else {}
        if settings.get("max_tokens"):
            chosen["max_new_tokens"] = int(settings["max_tokens"])
        return chosen
