"""Guess the languages of many texts from their commonest words: coarse, instant, without a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

WORDS = {
    "en": "the and to of is in that it for you with have this not my are was on can but your what how do i be at",
    "de": "der die das und ist nicht ich es zu mit sie ein eine den auf für wie mein meine bitte wir habe von im dem",
    "fr": "le la les et est pas je un une des du que pour vous dans mon ma avec sur nous ce qui bonjour mais ne",
    "es": "el la los que de en un una no es por para con mi se lo como su del las pero hola muy más está",
    "it": "il la che di un una non è per con mi sono del le si ma come ho lo questo della gli più anche nel",
    "pt": "o a que de não um uma é para com os do da em por mais meu minha se na no como mas foi está",
    "nl": "de het een en van ik niet is dat in je te op met voor mijn zijn er maar aan ook wat naar bij heb",
}
KNOWN = {code: frozenset(words.split()) for code, words in WORDS.items()}
SPEAKS = {word: [code for code, known in KNOWN.items() if word in known] for word in frozenset().union(*KNOWN.values())}
TOKEN = re.compile(r"[^\W\d_]+")
SCRIPTS = {"el": ("Ͱ", "Ͽ"), "ru": ("Ѐ", "ӿ"), "he": ("֐", "׿"), "ar": ("؀", "ۿ"), "hi": ("ऀ", "ॿ")}
SCRIPTS |= {"ja": ("぀", "ヿ"), "zh": ("一", "鿿"), "ko": ("가", "힯"), "th": ("฀", "๿")}
SHORTEST = 4
"""Words below which a text is not judged."""


def language(text: str) -> str:
    """Return an ISO 639-1 code, or an empty string where it cannot be told.

    >>> language("Wo ist mein Paket? Ich habe es noch nicht erhalten.")
    'de'
    """
    text = text[:2000]
    letters = [] if text.isascii() else [letter for letter in text if letter.isalpha()]
    for code, (first, last) in SCRIPTS.items():
        if letters and sum(first <= letter <= last for letter in letters) > 0.3 * len(letters):
            return code
    words = TOKEN.findall(text.casefold())
    if len(words) < SHORTEST:
        return ""
    counts = dict.fromkeys(KNOWN, 0)
    for word in words:
        for code in SPEAKS.get(word, ()):
            counts[code] += 1
    ranked = sorted(counts.items(), key=lambda each: -each[1])
    return ranked[0][0] if ranked[0][1] > ranked[1][1] and ranked[0][1] >= 0.1 * len(words) else ""


def shares(texts: Sequence[str]) -> dict[str, float]:
    """Return each language's share of the texts that could be judged, the commonest first."""
    found = Counter(code for code in map(language, texts) if code)
    total = sum(found.values())
    return {code: count / total for code, count in found.most_common()} if total >= 0.2 * len(texts) else {}
