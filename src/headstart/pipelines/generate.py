"""Continue a text, or answer in a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
from tokenizers import Tokenizer

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import DataError, UsageError
from headstart.core.pipeline import Ended, Pipeline
from headstart.pipelines import _chat
from headstart.pipelines._pieces import Pieces
from headstart.pipelines._symbols import START, symbols
from headstart.pipelines._text import plain, reader, settings, special

AT_ONCE = 8
"""Texts that are continued side by side."""
TOKENS, CHARACTERS = 128, 300
"""The longest text where the user does not say."""


class Spelling(Protocol):
    """What turns a prompt into tokens and back."""

    def tokens(self, text: str, whole: bool) -> list[int]:
        """Return the tokens of a prompt; `whole`: it holds its special tokens already."""

    def text(self, ids: Sequence[int]) -> str:
        """Return what tokens say, special ones left out."""


@dataclass(frozen=True)
class Subwords:
    """A tokenizer, and the token that a text begins with where nothing else does."""

    tokenizer: Tokenizer
    start: int | None

    def tokens(self, text: str, whole: bool) -> list[int]:
        """Return the tokens of a prompt."""
        found = list(self.tokenizer.encode(text, add_special_tokens=not whole).ids)
        return found or ([self.start] if self.start is not None else [])

    def text(self, ids: Sequence[int]) -> str:
        """Return what tokens say."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


@final
class Generate(Pipeline):
    """What the network writes after a prompt, token by token; with `chat`, as its answer to what the user says.

    The text ends at the network's own end token, before a stop word, or after `max_tokens`.
    """

    options: Mapping[str, Any] = {
        "max_tokens": None,
        "temperature": None,
        "top_p": None,
        "stop": None,
        "seed": None,
        "chat": False,
        "system": None,
    }

    def supports(self, network: Network) -> str:
        """Return why the network writes no text."""
        return "" if "generate" in network.backbone.uses else "it does not write text"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return `text` (what was written, without the prompt), `tokens` and `ended` (`end`, `stop` or `length`).

        Args:
            inputs: prompts; or conversations, lists of `{"role": …, "content": …}` or their JSON.
            options: `temperature` 0 takes the likeliest token each time; None leaves it, and `top_p`, to the network.
                A seed makes the text repeatable, whatever else is written beside it.

        Raises:
            DataError: a prompt fills all that the network can read.
            UsageError: an option cannot be used, or there is no chat template.
        """
        given = _settings(network, options)
        spelling = _spelling(network)
        prompts = [_prompt(network, spelling, each, options) for each in inputs]
        records: list[dict[str, Any]] = []
        for start in range(0, len(prompts), AT_ONCE):
            records += _written(session, prompts[start : start + AT_ONCE], given, spelling.text, _stops(options))
        return records

    def stream(self, network: Network, session: Session, given: Any, options: Mapping[str, Any]) -> Iterator[str]:
        """Yield the text as it is written, in pieces that are never part of a character or a stop word; then Ended."""
        ready, spelling = _settings(network, options), _spelling(network)
        prompts = [_prompt(network, spelling, given, options)]
        pieces = Pieces(spelling.text, _stops(options))
        return _streamed(session, _arrays(prompts), ready, pieces)

    def prompt_tokens(self, network: Network, given: Any, options: Mapping[str, Any]) -> int:
        """Return how many tokens of the network a prompt or conversation has.

        Raises:
            DataError: it fills all that the network can read.
            UsageError: it is a conversation, and there is no chat template.
        """
        return len(_prompt(network, _spelling(network), given, options))

    def show(self, record: Mapping[str, Any]) -> str:
        """Return the text."""
        return str(record["text"])


def _streamed(
    session: Session, arrays: Mapping[str, np.ndarray], given: Mapping[str, Any], pieces: Pieces
) -> Iterator[str]:
    steps, how = session.generate(arrays, given), "length"
    for step in steps:
        token = int(step["tokens"][0])
        if token < 0:
            how = "end"
            break
        text = pieces.add(token)
        if text:
            yield text
        if pieces.stopped:
            break
    _close(steps)
    rest = pieces.end()
    if rest:
        yield rest
    yield Ended(len(pieces.ids), "stop" if pieces.stopped else how)


def _written(
    session: Session,
    prompts: Sequence[Sequence[int]],
    given: Mapping[str, Any],
    decode: Callable[[Sequence[int]], str],
    stops: Sequence[str],
) -> list[dict[str, Any]]:
    texts = [Pieces(decode, stops) for _ in prompts]
    parts: list[list[str]] = [[] for _ in prompts]
    ended = ["length"] * len(prompts)
    steps = session.generate(_arrays(prompts), given)
    for step in steps:
        for row, token in enumerate(step["tokens"].tolist()):
            if ended[row] != "length":
                continue
            if token < 0:
                ended[row] = "end"
                continue
            parts[row].append(texts[row].add(token))
            if texts[row].stopped:
                ended[row] = "stop"
        if "length" not in ended:
            break
    _close(steps)
    records = []
    for row, text in enumerate(texts):
        parts[row].append(text.end())
        how = "stop" if text.stopped else ended[row]
        records.append({"text": "".join(parts[row]), "tokens": len(text.ids), "ended": how})
    return records


def _close(steps: Iterator[Any]) -> None:
    """Let the network stop now, not when the iterator is collected."""
    close = getattr(steps, "close", None)
    if close is not None:
        close()


def _arrays(prompts: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    lengths = np.array([len(each) for each in prompts], np.int32)
    return {"ids": np.array([token for each in prompts for token in each], np.int32), "lengths": lengths}


def _prompt(network: Network, spelling: Spelling, given: Any, options: Mapping[str, Any]) -> list[int]:
    chat = options["chat"] or options["system"] or not isinstance(given, str)
    text = _chat.prompt(network, _chat.conversation(given, options["system"])) if chat else plain(given)
    found = spelling.tokens(text, whole=bool(chat))
    longest = network.preprocessing.get("max_length")
    if longest and len(found) >= int(longest):
        raise DataError(f"The prompt has {len(found)} tokens.", allowed=f"The model reads and writes {longest} in all.")
    if not found:
        raise DataError("The prompt is empty, and the model has no token to begin with.", hint="Give a first word.")
    return found


def _spelling(network: Network) -> Spelling:
    if "vocabulary" in network.preprocessing:
        return symbols(network)
    tokenizer, named = reader(network), special(network)
    numbers = [tokenizer.token_to_id(named[name]) for name in ("bos_token", "eos_token") if name in named]
    own = [network.config.get("bos_token_id"), network.config.get("eos_token_id")]
    known = [each for each in [*numbers, *own] if isinstance(each, int)]
    return Subwords(tokenizer, known[0] if known else None)


def _settings(network: Network, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a session needs to generate, checked."""
    given = {name: options[name] for name in ("max_tokens", "temperature", "top_p", "seed")}
    if given["max_tokens"] is None:
        given["max_tokens"] = CHARACTERS if "vocabulary" in network.preprocessing else TOKENS
    if int(given["max_tokens"]) < 1:
        raise UsageError(f"--max-tokens is {given['max_tokens']}.", allowed="It is 1 or more.")
    if given["temperature"] is not None and not 0 <= float(given["temperature"]) <= 100:
        raise UsageError(f"--temperature is {given['temperature']}.", allowed="0 is greedy; 0.2 to 1.5 is usual.")
    if given["top_p"] is not None and not 0 < float(given["top_p"]) <= 1:
        raise UsageError(f"--top-p is {given['top_p']}.", allowed="It is above 0, and 1 at the most.")
    if given["seed"] is not None and int(given["seed"]) < 0:
        raise UsageError(f"--seed is {given['seed']}.", allowed="It is 0 or more.")
    given["end"] = _ends(network)
    return given


def _ends(network: Network) -> list[int]:
    """Return the tokens that end a text, as the tokenizer and the generation settings name them."""
    if "vocabulary" in network.preprocessing:
        return [number for name, number in symbols(network).numbers.items() if name == START]
    found = [reader(network).token_to_id(special(network).get("eos_token", ""))]
    named = settings(network, "generation_config.json").get("eos_token_id")
    found += named if isinstance(named, list) else [named]
    return sorted({each for each in found if isinstance(each, int)})


def _stops(options: Mapping[str, Any]) -> list[str]:
    given = options["stop"]
    return [given] if isinstance(given, str) else [str(each) for each in given or ()]
