"""Hidden tokens: what a network learns a language by, without anybody's labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from tokenizers import Tokenizer

from headstart.core.backbone import Network
from headstart.core.course import Examples
from headstart.core.errors import HubError

SHARE = 0.15
"""Share of a text's tokens that are to be told."""
HIDDEN, SWAPPED = 0.8, 0.1
"""Of those, the share that is hidden behind the mask, and the share that another token stands for."""
IGNORED = -100
"""What stands in `answers` where nothing is to be told."""
NAMED = ("[MASK]", "<mask>", "[mask]", "<MASK>")
"""How tokenizers write their mask, where their files do not say."""


@dataclass(frozen=True)
class Words:
    """What of a tokenizer hiding needs to know.

    Args:
        mask: number of the mask token.
        plain: numbers of the tokens that are neither special nor added.
        begins: (vocabulary,) whether a token begins a word.
    """

    mask: int
    plain: np.ndarray
    begins: np.ndarray

    @staticmethod
    def of(network: Network) -> Words:
        """Return what a network's tokenizer says.

        Raises:
            HubError: it has no mask token.
        """
        tokenizer = Tokenizer.from_file(str(network.folder / network.preprocessing["tokenizer"]))
        numbers = tokenizer.get_vocab(with_added_tokens=True)
        mask = next((numbers[name] for name in (*_named(network), *NAMED) if name in numbers), None)
        if mask is None:
            raise HubError(
                f"The tokenizer of '{network.backbone.reference}' has no mask token.",
                allowed="Networks that were trained to fill masks, such as BERT and RoBERTa, have one.",
            )
        texts = np.array([""] * (max(numbers.values()) + 1), dtype=object)
        texts[list(numbers.values())] = list(numbers)
        added = set(tokenizer.get_added_tokens_decoder())
        plain = np.array([each for each in sorted(numbers.values()) if each not in added], np.int64)
        return Words(int(mask), plain, _begins(texts))


def _named(network: Network) -> list[str]:
    """Return the mask as the tokenizer's files name it."""
    found = []
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            given = json.loads((network.folder / name).read_text(encoding="utf-8")).get("mask_token")
        except (OSError, ValueError, AttributeError):
            continue
        text = given.get("content") if isinstance(given, dict) else given
        found += [text] if isinstance(text, str) else []
    return found


def _begins(texts: np.ndarray) -> np.ndarray:
    """Return which tokens begin a word: those that are not `##…`, or those with a mark for a space in front."""
    starts: Any = np.array([text[:1] in ("Ġ", "▁") for text in texts], bool)
    return starts if starts.any() else np.array([not text.startswith("##") for text in texts], bool)


@final
class Masked(Examples):
    """Texts some of whose tokens are hidden: others in each epoch, the same ones for the same seed, epoch and row.

    Of 15 % of the tokens 80 % are hidden behind the mask, 10 % are swapped for any token, and 10 % stay (Devlin and
    others 2019, arXiv:1810.04805). The batch has `answers` (flat) beside `ids`: the token, or -100.

    Args:
        texts: rows of `ids` (flat) and `lengths` (n,).
        words: what the tokenizer says.
        seed: makes the choice repeatable.
        share: of a text's tokens that are to be told.
        whole: hide whole words instead of parts of them (Cui and others 2019, arXiv:1906.08101).
    """

    def __init__(self, texts: Examples, words: Words, seed: int, *, share: float = SHARE, whole: bool = False) -> None:
        self.texts, self.words, self.seed, self.share, self.whole = texts, words, seed, share, whole
        size = max(len(words.begins), int(words.plain.max(initial=0)) + 1)
        self.may = np.zeros(size + 1, bool)
        self.may[words.plain] = True

    @property
    def notes(self) -> Sequence[str]:  # type: ignore[override]
        """What is to be known of the texts."""
        return self.texts.notes

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each text (n,)."""
        return self.texts.sizes

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return the texts with hidden tokens, and the answers; without an epoch the choice is a fixed one."""
        given = dict(self.texts.batch(rows, epoch))
        ids = given["ids"].copy()
        answers = np.full(len(ids), IGNORED, np.int64)
        ends = np.cumsum(given["lengths"])
        for row, end, length in zip(rows.tolist(), ends.tolist(), given["lengths"].tolist(), strict=True):
            chance = np.random.default_rng([self.seed, 0 if epoch is None else epoch + 1, int(row)])
            part = slice(end - length, end)
            told = self._told(given["ids"][part], chance)
            answers[part][told] = given["ids"][part][told]
            ids[part][told] = self._shown(given["ids"][part][told], chance)
        return given | {"ids": ids, "answers": answers}

    def _told(self, ids: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Return which tokens of a text are to be told: places (k,), one at the least."""
        may = np.flatnonzero(self.may[np.minimum(ids, len(self.may) - 1)])
        if not len(may):
            return may
        count = max(1, round(self.share * len(may)))
        if not self.whole:
            return chance.choice(may, count, replace=False)
        first = self.words.begins[ids[may]]
        # A word also begins where there is something between it and the token before.
        first[1:] |= np.diff(may) > 1
        first[0] = True
        word = np.cumsum(first) - 1
        order = chance.permutation(int(word[-1]) + 1)
        sizes = np.bincount(word)[order]
        chosen = order[: max(1, int(np.searchsorted(np.cumsum(sizes), count, side="right")))]
        return may[np.isin(word, chosen)]

    def _shown(self, ids: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        drawn = chance.random(len(ids))
        others = chance.choice(self.words.plain, len(ids))
        swapped = np.where(drawn < HIDDEN + SWAPPED, others, ids)
        return np.where(drawn < HIDDEN, self.words.mask, swapped).astype(ids.dtype)
