"""What is compared of a transcript: its words, and how many of them are wrong."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.core.metrics import bounded
from headstart.core.registry import require

RULE: Mapping[str, str] = {
    "unicode": "NFKC",
    "case": "lower",
    "punctuation": "a space in its place; apostrophes within words are kept",
}
"""What `plain` does, for bundles and reports."""
DRAWS = 1000
APOSTROPHES = re.compile("[\u2018\u2019\u02bc\u0060\u00b4]")
WITHIN = re.compile(r"(?<=\w)'(?=\w)")
KEPT = "\u0001"


def plain(text: str) -> str:
    """Return a text in lower case without punctuation, its words one space apart.

    >>> plain("Don’t  stop — it's twenty-one, O'Neil!")
    "don't stop it's twenty one o'neil"
    """
    text = APOSTROPHES.sub("'", unicodedata.normalize("NFKC", text)).lower()
    text = WITHIN.sub(KEPT, text)
    spaced = "".join(" " if unicodedata.category(each)[0] in "PSZC" and each != KEPT else each for each in text)
    return " ".join(spaced.replace(KEPT, "'").split())


def errors(said: Sequence[str], heard: Sequence[str]) -> dict[str, Any]:
    """Return the word and the character error rate (`wer`, `cer`) of transcripts, with 95 % intervals over recordings.

    A rate is the number of words (or characters) that were replaced, left out or put in, for each that was said; it
    can be more than 1. `exact` is the share of recordings without an error.

    Args:
        said: what is right, as `plain` gives it.
        heard: what is judged, as `plain` gives it.

    Raises:
        MissingExtra: jiwer is not installed.
    """
    words = np.array([_words(right, given) for right, given in zip(said, heard, strict=True)]).reshape(-1, 4)
    letters = np.array([_letters(right, given) for right, given in zip(said, heard, strict=True)]).reshape(-1, 4)
    totals = words.sum(axis=0)
    judged: dict[str, Any] = {}
    for name, counts in (("wer", words), ("cer", letters)):
        judged |= {name: _rate(counts.sum(axis=0)), f"{name}_ci": _interval(counts)}
    return {
        **judged,
        "exact": float((words[:, 1:].sum(axis=1) == 0).mean()) if len(words) else 0.0,
        "rows": len(words),
        "words": int(totals[0]),
        **{name: int(total) for name, total in zip(("replaced", "left_out", "put_in"), totals[1:], strict=True)},
    }


def _rate(counts: np.ndarray) -> float:
    return float(counts[1:].sum() / max(int(counts[0]), 1))


def _interval(counts: np.ndarray) -> list[float]:
    """Return the bootstrap interval of the rate, recordings drawn anew."""
    if not len(counts):
        return [0.0, 1.0]
    drawn = np.random.default_rng(0).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=DRAWS)
    totals = drawn @ counts
    return bounded(totals[:, 1:].sum(axis=1) / np.maximum(totals[:, 0], 1))


def _words(said: str, heard: str) -> list[int]:
    if not said:
        return [0, 0, 0, len(heard.split())]
    found = require("jiwer", "transcribe").process_words(said, heard)
    return [len(said.split()), found.substitutions, found.deletions, found.insertions]


def _letters(said: str, heard: str) -> list[int]:
    if not said:
        return [0, 0, 0, len(heard)]
    found = require("jiwer", "transcribe").process_characters(said, heard)
    return [len(said), found.substitutions, found.deletions, found.insertions]
