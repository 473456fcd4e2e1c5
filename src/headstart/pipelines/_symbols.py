"""Vocabularies of single characters or whole words, as small recurrent language models have them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headstart.core.backbone import Network
from headstart.pipelines._text import settings

START = "<s>"
"""The symbol before and after each text."""
WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]|\n")


@dataclass(frozen=True)
class Symbols:
    """Symbols by number, and back.

    Args:
        numbers: the number of each symbol.
        by_word: whether symbols are words, written with spaces between them, or characters.
    """

    numbers: Mapping[str, int]
    by_word: bool

    def tokens(self, text: str, whole: bool) -> list[int]:
        """Return the start symbol, where there is one, and those of the text; 0 stands for an unknown one."""
        parts = WORDS.findall(text) if self.by_word else list(text)
        start = [self.numbers[START]] if START in self.numbers and not whole else []
        return start + [self.numbers.get(each, 0) for each in parts]

    def text(self, ids: Sequence[int]) -> str:
        """Return what symbols say; the start symbol and unknown numbers say nothing."""
        names = {number: name for name, number in self.numbers.items() if name != START}
        found = [names[each] for each in ids if each in names]
        if not self.by_word:
            return "".join(found)
        return "".join(each if each in ".,;:!?)\n" else f" {each}" for each in found)


def symbols(network: Network) -> Symbols:
    """Return the network's vocabulary; it is one of words where most of its symbols are longer than a character."""
    found = settings(network, network.preprocessing["vocabulary"])
    numbers = {str(name): int(number) for name, number in found.items()}
    return Symbols(numbers, sum(len(name) > 1 for name in numbers) > len(numbers) / 2)
