"""Tokens to text as they come: whole characters only, and cut before stop words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer writes for bytes that are not a whole character yet."""
LONGEST_CHARACTER = 8
"""Tokens after which broken bytes are given up and written as they are."""


class Pieces:
    """One text being written: takes tokens, gives the characters that are certain.

    Args:
        decode: tokens to text.
        stops: texts before which the answer ends; they are left out of it.

    >>> letters = Pieces(lambda ids: "".join(map(chr, ids)), ["END"])
    >>> [letters.add(ord(each)) for each in "goEND!"], letters.stopped
    (['g', 'o', '', '', '', ''], True)
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self.decode, self.stops = decode, [each for each in stops if each]
        self.ids: list[int] = []
        self.before, self.read = 0, 0
        self.held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Return the text that is certain now that this token has come; often empty."""
        if self.stopped:
            return ""
        self.ids.append(token)
        # Some tokenizers write a token differently at the beginning: it is read after the ones before it.
        old, new = self.decode(self.ids[self.before : self.read]), self.decode(self.ids[self.before :])
        if len(new) <= len(old) or (new.endswith(UNFINISHED) and len(self.ids) - self.read < LONGEST_CHARACTER):
            return ""
        self.before, self.read = self.read, len(self.ids)
        return self._certain(new[len(old) :])

    def end(self) -> str:
        """Return what was held back, now that no more tokens come."""
        if self.stopped:
            return ""
        old, new = self.decode(self.ids[self.before : self.read]), self.decode(self.ids[self.before :])
        text = self._certain(new[len(old) :])
        text, self.held = text + ("" if self.stopped else self.held), ""
        return text

    def _certain(self, text: str) -> str:
        self.held += text
        found = [at for at in (self.held.find(stop) for stop in self.stops) if at >= 0]
        if found:
            self.stopped = True
            text, self.held = self.held[: min(found)], ""
            return text
        keep = max((self._begun(stop) for stop in self.stops), default=0)
        text, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return text

    def _begun(self, stop: str) -> int:
        """Return how many characters at the end of the held text may be the beginning of a stop word."""
        longest = min(len(stop) - 1, len(self.held))
        return next((size for size in range(longest, 0, -1) if self.held.endswith(stop[:size])), 0)
