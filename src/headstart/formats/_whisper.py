"""How Whisper is asked for a text, which tokens it may write, and of which stretches of time they are.

Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022, sections 2.3 and 4.5; where
these leave a choice open, it is the one of transformers' own `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np

from headstart.core.errors import UsageError, listed
from headstart.formats._sampling import asked_for

TICK, FRAME = 0.02, 0.01
"""Seconds between two of its times, and between two frames of a spectrum."""
OWN = ("suppress_tokens", "begin_suppress_tokens")
"""Ways of choosing tokens that `Rules` knows beside those that do nothing."""
JUDGED = ("compression_ratio_threshold", "condition_on_prev_tokens", "logprob_threshold", "no_speech_threshold")
"""Settings by which transformers writes a window again, or leaves it out."""

Onwards = Callable[[Sequence[int]], np.ndarray]
"""Reads on, and returns scores (vocabulary,) of what follows."""
Stretch = tuple[float, float, np.ndarray]
"""Seconds of a stretch's start and end, and its tokens."""


def codes(own: Mapping[str, Any]) -> dict[str, int]:
    """Return the token of each language's code that a network knows; none where it knows one language only."""
    return {name.strip("<|>"): int(number) for name, number in (own.get("lang_to_id") or {}).items()}


def code(language: Any, known: Sequence[str]) -> str | None:
    """Return a language's code as the network knows it, None where none is asked for.

    Raises:
        UsageError: it does not know the language.
    """
    if not language:
        return None
    if str(language).lower() not in known:
        raise UsageError(
            f"This model does not know the language '{language}'.",
            allowed=f"Languages: {listed(known, 100)}." if known else "It knows one language only.",
        )
    return str(language).lower()


def unsupported(own: Mapping[str, Any]) -> str:
    """Return an empty string, or what a network's generation_config.json asks for that `Rules` does not know."""
    if own.get("_from_model_config"):  # then the library reads a part of it only
        return "its generation_config.json was derived from its config.json"
    if own.get("max_length") is None:
        return "its generation_config.json does not say how many tokens a text may have"
    asked = asked_for(own, OWN)
    asked += [name for name in JUDGED if own.get(name) not in (None, False)]
    asked += [name for name in ("num_beams", "repetition_penalty") if own.get(name) not in (None, 1)]
    known = codes(own)
    asked += ["task"] if own.get("task") and not known else []
    language = own.get("language")
    if language and str(language).strip("<|>") not in known:
        asked.append(f"the language '{language}'")
    return f"it asks for {', '.join(asked)}, which PyTorch's library knows" if asked else ""


@final
class Rules:
    """What a network's settings say.

    Args:
        own: its generation_config.json.
        config: its config.json.
    """

    def __init__(self, own: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.codes, self.set = codes(own), str(own.get("language") or "").strip("<|>")
        both = {**config, **{name: each for name, each in own.items() if each is not None}}
        self.start, ends = int(both["decoder_start_token_id"]), both["eos_token_id"]
        self.ends = [int(each) for each in (ends if isinstance(ends, list) else [ends])]
        self.transcribe = int((own.get("task_to_id") or {}).get("transcribe", -1))
        silent = own.get("no_timestamps_token_id")
        self.silent = None if silent is None else int(silent)
        self.first_time = int(config["vocab_size"]) + 1 if self.silent is None else self.silent + 1
        self.latest_start = own.get("max_initial_timestamp_index")
        forced = own.get("forced_decoder_ids") or config.get("forced_decoder_ids") or ()
        self.forced = [int(token) for _, token in forced if token is not None]
        self.never, self.not_first = (np.array(own.get(name) or (), np.int64) for name in OWN)
        self.longest, self.room = int(own["max_length"]), int(config["max_target_positions"])

    def segments(
        self, mel: np.ndarray, settings: Mapping[str, Any], listen: Callable[[np.ndarray], Callable[[], Onwards]]
    ) -> Iterator[Stretch]:
        """Yield the stretches of one window; where the network stops at a time, it is asked again from there.

        Args:
            mel: (1, bands, frames).
            settings: `language` (a code, or None for: find out), `timestamps`, and `max_tokens` (None: the network's).
            listen: makes of a window (1, bands, frames) what begins a text about it.

        Raises:
            UsageError: it does not know the language.
        """
        language = code(settings.get("language"), list(self.codes))
        timed = self.silent is not None and bool(settings.get("timestamps"))
        at, total, prompt, longest = 0, mel.shape[2], list[int](), self.longest
        while at < total:
            window = np.zeros_like(mel)
            window[:, :, : total - at] = mel[:, :, at:]
            begin = listen(window)
            prompt = prompt or self._prompt(language, timed, begin)
            longest = min(longest + len(prompt), self.room)
            most = settings.get("max_tokens")
            room = min(int(most) + len(prompt), self.room) if most else longest
            tokens = self._tokens(begin(), prompt, room - len(prompt), timed)
            found, moved = self._stretches(tokens, total - at)
            for start, end, some in found:
                yield at * FRAME + start * TICK, at * FRAME + end * TICK, some[some < self.ends[0]]
            at += moved

    def _prompt(self, language: str | None, timed: bool, begin: Callable[[], Onwards]) -> list[int]:
        """Return the tokens that stand before a text."""
        prompt = [self.start]
        if self.codes:
            language = language or self.set
            numbers = np.array(sorted(self.codes.values()))
            likely = self.codes[language] if language else int(numbers[begin()(prompt)[numbers].argmax()])
            prompt += [likely, self.transcribe]
        else:
            prompt += self.forced
        if self.silent is None:
            return prompt
        prompt = prompt[:-1] if prompt[-1] == self.silent else prompt
        return prompt if timed else [*prompt, self.silent]

    def _tokens(self, onwards: Onwards, prompt: Sequence[int], most: int, timed: bool) -> np.ndarray:
        """Return what is written, (n,), the likeliest token each time."""
        tokens: list[int] = []
        read = prompt
        while len(tokens) < most:
            token = int(self.allowed(onwards(read), tokens, timed).argmax())
            if token in self.ends:
                break
            tokens.append(token)
            read = [token]
        return np.array(tokens, np.int64)

    def allowed(self, scores: np.ndarray, tokens: Sequence[int], timed: bool) -> np.ndarray:
        """Return scores (vocabulary,), in which those of tokens that may not follow a text's are none.

        Times come in pairs, the end of one stretch and the start of the next; they never go back; and one is written
        as soon as some time is likelier than the likeliest word.
        """
        scores = scores.astype(np.float64)
        scores[self.never] = -np.inf
        if not tokens:
            scores[self.not_first] = -np.inf
        if not timed or self.silent is None:
            return scores
        scores[self.silent] = -np.inf
        first = self.first_time
        after_time = bool(tokens) and tokens[-1] >= first
        before_that = len(tokens) < 2 or tokens[-2] >= first
        if after_time and before_that:
            scores[first:] = -np.inf
        elif after_time:
            scores[: self.ends[0]] = -np.inf
        times = [each for each in tokens if each >= first]
        if times:
            scores[first : times[-1] + (not after_time or before_that)] = -np.inf
        if not tokens:
            scores[:first] = -np.inf
            if self.latest_start is not None:
                scores[first + int(self.latest_start) + 1 :] = -np.inf
        any_time, word = np.logaddexp.reduce(scores[first:]), scores[:first].max()
        if any_time > word:
            scores[:first] = -np.inf
        return scores

    def _stretches(self, tokens: np.ndarray, frames: int) -> tuple[list[tuple[float, float, np.ndarray]], int]:
        """Return stretches, their starts and ends in ticks, and how many frames the next window begins later."""
        is_time = tokens >= self.first_time
        pairs = np.flatnonzero(is_time[:-1] & is_time[1:]) + 1
        if not len(pairs):
            last = tokens[is_time][-1] - self.first_time if is_time.any() else 0
            return [(0, float(last or int(frames * FRAME / TICK)), tokens)], frames
        whole = is_time[-2:].tolist() == [False, True]
        ends = [*pairs.tolist(), len(tokens)] if whole else [*pairs[:-1].tolist(), int(pairs[-1]) + 1]
        found, begin = [], 0
        for end in ends:
            some = tokens[begin:end]
            last = some[-1] if whole or end != ends[-1] else some[-2]
            found.append((float(some[0] - self.first_time), float(last - self.first_time), some))
            begin = end
        # Nothing is said after a single time; what follows a pair of them is heard again, as it was cut off.
        ticks = int(tokens[begin - 2] - self.first_time)
        return found, frames if whole else max(round(ticks * TICK / FRAME), 1)
