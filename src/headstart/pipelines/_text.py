"""Texts as tokens: the network's own tokenizer, long texts in overlapping windows, and what its special tokens are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from headstart.core.backbone import Network
from headstart.core.errors import DataError, HubError

LONGEST = 4_000_000
"""Characters of one text that are read."""
OVERLAP = 4
"""A window shares one part in so many with the one before it."""


def plain(cell: Any) -> str:
    """Return an input as text that can be encoded.

    Raises:
        DataError: it is not a text, or far too long.
    """
    if not isinstance(cell, str):
        raise DataError(f"This model reads text, not {type(cell).__name__}.", hint="Give a string.")
    if len(cell) > LONGEST:
        raise DataError(f"A text has {len(cell):,} characters.", allowed=f"At most {LONGEST:,} are read.")
    # A lone surrogate cannot be encoded as UTF-8, which tokenizers need.
    return cell.encode("utf-8", "replace").decode("utf-8")


def limit(network: Network) -> int:
    """Return how many tokens the network reads at once, special ones included."""
    return int(network.preprocessing.get("max_length") or 512)


def reader(network: Network, cut: str = "", overlap: int = 0, at_most: int = 0) -> Tokenizer:
    """Return the network's tokenizer; it must not be changed, because it is shared.

    Args:
        cut: which of two texts is cut where they are too long together: `longest_first`, `only_first` or `only_second`;
            empty cuts nothing.
        overlap: tokens that a cut-off rest shares with what comes before it.
        at_most: tokens that are read at once, where it is fewer than the network can.
    """
    name = network.preprocessing.get("tokenizer")
    file = network.folder / str(name)
    if not name or not file.is_file():
        raise HubError(
            f"'{network.backbone.reference}' has no tokenizer that can be read (tokenizer.json).",
            hint="Save it with a fast tokenizer: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        )
    length = min(at_most or limit(network), limit(network)) if cut else 0
    return _opened(str(file), file.stat().st_mtime_ns, cut, overlap, length)


@lru_cache(maxsize=8)
def _opened(file: str, _changed: int, cut: str, overlap: int, length: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(file)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if cut:
        tokenizer.enable_truncation(length, stride=overlap, strategy=cut)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[Any]) -> list[Encoding]:
    """Return the tokens of texts, or of pairs of texts.

    Raises:
        DataError: what may not be cut is longer than what the network reads.
    """
    try:
        return list(tokenizer.encode_batch(list(texts)))
    except Exception as error:  # tokenizers raises nothing more precise
        raise DataError(
            f"A text cannot be cut to what the model reads: {error}.", hint="Shorten the question, or the labels."
        ) from error


def arrays_of(encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
    """Return `ids`, `types` (flat) and `lengths` (n,), all int32."""
    lengths = np.array([len(each.ids) for each in encodings], np.int32)
    ids = np.array([token for each in encodings for token in each.ids], np.int32)
    types = np.array([kind for each in encodings for kind in each.type_ids], np.int32)
    return {"ids": ids, "lengths": lengths, "types": types}


@dataclass(frozen=True)
class Window:
    """A part of a text that a network reads at once.

    Args:
        encoding: its tokens, special ones included.
        places: (k,) where the text's own tokens stand among them.
        first: number of its first token in the whole text.
    """

    encoding: Encoding
    places: np.ndarray
    first: int


def windows(encoding: Encoding, overlap: int, sequence: int = 0) -> list[Window]:
    """Return the windows of an encoding whose rest was cut off.

    Args:
        overlap: tokens that each shares with the one before it, as given to `reader`.
        sequence: which text of a pair was cut.
    """
    found: list[Window] = []
    for each in [encoding, *encoding.overflowing]:
        places = np.array([at for at, of in enumerate(each.sequence_ids) if of == sequence], np.int64)
        first = found[-1].first + len(found[-1].places) - overlap if found else 0
        found.append(Window(each, places, first))
    return found


def best_seen(parts: Sequence[Window]) -> list[tuple[int, int]]:
    """Return for each token of the text the window that sees most around it, and its place in that window."""
    total = parts[-1].first + len(parts[-1].places)
    best, margin = [(0, 0)] * total, np.full(total, -1)
    for number, part in enumerate(parts):
        count = len(part.places)
        for at, place in enumerate(part.places):
            before = at if part.first else total
            after = count - 1 - at if part.first + count < total else total
            if min(before, after) > margin[part.first + at]:
                margin[part.first + at], best[part.first + at] = min(before, after), (number, int(place))
    return best


@lru_cache(maxsize=32)
def _json(file: str, _changed: int) -> Mapping[str, Any]:
    with open(file, encoding="utf-8") as opened:
        found = json.load(opened)
    return found if isinstance(found, dict) else {}


def settings(network: Network, name: str) -> Mapping[str, Any]:
    """Return a JSON file of the network's folder; empty where there is none."""
    file = network.folder / name
    try:
        return _json(str(file), file.stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


def special(network: Network) -> dict[str, str]:
    """Return the special tokens by name (`mask_token`, `bos_token`, …), as the tokenizer's files give them."""
    found: dict[str, str] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        for key, value in settings(network, name).items():
            text = value.get("content") if isinstance(value, Mapping) else value
            if key.endswith("_token") and isinstance(text, str):
                found.setdefault(key, text)
    return found
