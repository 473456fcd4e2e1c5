"""How alike a written answer and the right one are: whole, in words, in letters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

WORD = re.compile(r"\w+")
LONGEST = 6
"""Letters of the longest n-grams that are compared."""
BETA = 2.0
"""How many times as much recall counts as precision."""


def words(text: str) -> list[str]:
    """Return the words of a text, lower-cased, without punctuation and with each letter written in one way.

    >>> words("He goes to the park, every day.")
    ['he', 'goes', 'to', 'the', 'park', 'every', 'day']
    """
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def exact(answer: str, right: str) -> float:
    """Return 1 where both have the same words in the same order, else 0; texts without words must be equal."""
    if not words(right):
        return float(answer.strip() == right.strip())
    return float(words(answer) == words(right))


def word_f1(answer: str, right: str) -> float:
    """Return the harmonic mean of precision and recall of words (Rajpurkar and others 2016, arXiv:1606.05250).

    >>> round(word_f1("the red cat", "a red cat sat"), 3)
    0.571
    """
    given, wanted = Counter(words(answer)), Counter(words(right))
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((given & wanted).values())
    return 2 * shared / (sum(given.values()) + sum(wanted.values()))


def chrf(answer: str, right: str) -> float:
    """Return the F2 of the n-grams of 1 to 6 letters, between 0 and 1 (Popović 2015, W15-3049).

    >>> chrf("same text", "same text"), chrf("", "text")
    (1.0, 0.0)
    """
    given, wanted = ("".join(text.split()) for text in (answer, right))
    precision, recall = [], []
    for size in range(1, LONGEST + 1):
        ours, theirs = _grams(given, size), _grams(wanted, size)
        if not ours and not theirs:
            continue
        shared = sum((ours & theirs).values())
        precision.append(shared / max(sum(ours.values()), 1))
        recall.append(shared / max(sum(theirs.values()), 1))
    if not precision:
        return 1.0
    p, r = sum(precision) / len(precision), sum(recall) / len(recall)
    return (1 + BETA**2) * p * r / (BETA**2 * p + r) if p + r else 0.0


def _grams(text: str, size: int) -> Counter[str]:
    return Counter(text[at : at + size] for at in range(len(text) - size + 1))


MEASURES: dict[str, Callable[[str, str], float]] = {"exact_match": exact, "word_f1": word_f1, "chrf": chrf}


def each(answers: Sequence[str], right: Sequence[str]) -> dict[str, list[float]]:
    """Return every measure of every pair of answers."""
    return {name: [how(a, b) for a, b in zip(answers, right, strict=True)] for name, how in MEASURES.items()}
