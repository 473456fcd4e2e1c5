"""From a network's letters, one every few milliseconds (CTC), to words with their times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError
from headstart.modalities import _samples
from headstart.pipelines import _beams

SPECIAL = ("<s>", "</s>", "<unk>", "[UNK]", "[CLS]", "[SEP]")
"""Tokens that stand for nothing that can be written."""


BLANK = "<pad>"
"""What the letter of number 0 is called in networks whose letters were learnt here: their `labels`."""


@dataclass(frozen=True)
class Alphabet:
    """What each token number stands for.

    Args:
        letters: by number; empty where a token is not written.
        blank: the number that says: nothing new.
        space: the token between words.
    """

    letters: Mapping[int, str]
    blank: int
    space: str = "|"


@dataclass(frozen=True)
class Word:
    """A word and the frames from its first letter's start to its last letter's end."""

    text: str
    first: int
    last: int


def alphabet(network: Network) -> Alphabet:
    """Return the alphabet that is the network's labels, or the one in its vocab.json.

    Raises:
        HubError: it has none.
    """
    if network.labels and network.labels[0] == BLANK:
        return Alphabet({0: "", **dict(enumerate(network.labels[1:], start=1))}, 0)
    listing = _json(network.folder / "vocab.json")
    settings = _json(network.folder / "tokenizer_config.json")
    nested = [each for each in listing.values() if isinstance(each, dict)]
    if nested:
        # One alphabet for each language; the one that the weights are for is named.
        listing = listing.get(str(settings.get("target_lang"))) or nested[0]
    if not listing:
        raise HubError(
            f"'{network.backbone.reference}' has no vocab.json, which says what its letters are.",
            hint="Save its processor into the same folder: processor.save_pretrained(folder)",
        )
    space = str(settings.get("word_delimiter_token") or "|")
    blank = network.config.get("pad_token_id")
    if blank is None:
        blank = listing.get("<pad>", listing.get("[PAD]", 0))
    written = {int(number): "" if text in SPECIAL else text for text, number in listing.items()}
    return Alphabet(written | {int(blank): ""}, int(blank), space)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise HubError(f"'{path}' cannot be read as JSON: {error}.") from error
    return found if isinstance(found, dict) else {}


def stride(network: Network) -> int:
    """Return how many samples one frame stands for."""
    return int(np.prod(network.config.get("conv_stride") or [320]))


def frames(
    network: Network, session: Session, pieces: Iterable[np.ndarray], window: float, overlap: float, beams: int = 1
) -> Iterator[np.ndarray]:
    """Yield the likeliest token of each frame, window by window, in constant memory.

    With several `beams`, those tokens that spell the likeliest letters of the window, see `_beams`.

    Windows overlap on both sides by `overlap` seconds whose frames are dropped, because a network knows too little at
    an edge. What fits into one window is read whole. Windows begin at whole frames, so that what is kept joins up.

    Args:
        pieces: samples at the network's rate.
        window: seconds of a window.
        beams: beginnings that are kept from frame to frame.
    """
    step = stride(network)
    blank = alphabet(network).blank if beams > 1 else 0
    rate = _samples.sampling_rate(network.preprocessing)
    side = max(1, round(overlap * rate / step)) * step
    size = max(round(window * rate / step) * step, 4 * side)
    held, started = np.zeros(0, np.float32), False

    def read(samples: np.ndarray) -> np.ndarray:
        logits = session.run(_samples.encode([samples], network.preprocessing))["logits"]
        if beams > 1 and len(logits):
            return _beams.path(logits, beams, blank)
        return np.asarray(logits.argmax(axis=1))

    for piece in pieces:
        held = np.concatenate([held, piece])
        while len(held) > size:
            tokens = read(held[:size])
            yield tokens[side // step if started else 0 : (size - side) // step]
            held, started = held[size - 2 * side :], True
    if len(held):
        yield read(held)[side // step if started else 0 :]


def words(chunks: Iterable[np.ndarray], known: Alphabet) -> Iterator[Word]:
    """Yield the words that the likeliest tokens spell: repeats are one letter, unless a blank stands between them."""
    before, number, text, first, last = known.blank, 0, "", 0, 0
    for chunk in chunks:
        for token in chunk.tolist():
            number += 1
            letter = known.letters.get(token, "")
            if token == before:
                last = number if letter and letter != known.space else last
                continue
            before = token
            if letter == known.space and text:
                yield Word(text, first, last)
                text = ""
            elif letter and letter != known.space:
                first = first if text else number - 1
                text, last = text + letter, number
    if text:
        yield Word(text, first, last)
