"""Find names, places and the like in a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.pipeline import Pipeline
from headstart.pipelines._inputs import softmax
from headstart.pipelines._text import OVERLAP, Window, arrays_of, best_seen, encode, limit, plain, reader, windows
from headstart.pipelines.classify import label

AT_ONCE = 16
OUTSIDE = ("O", "")
"""Labels of what is no entity."""


@dataclass
class Word:
    """A word: where it stands, its label, and the label's probability."""

    start: int
    end: int
    label: str
    score: float


@final
class TagTokens(Pipeline):
    """The entities of a text, with their places in it; a word has the label of its first token."""

    def supports(self, network: Network) -> str:
        """Return why the network labels no tokens."""
        return "" if "tag_tokens" in network.backbone.uses else "it was not trained to label tokens"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return `entities` for each text: `label`, `text`, `score`, and `start` and `end` in characters."""
        texts = [plain(each) for each in inputs]
        records: list[dict[str, Any]] = []
        for start in range(0, len(texts), AT_ONCE):
            records += _tagged(network, session, texts[start : start + AT_ONCE])
        return records

    def show(self, record: Mapping[str, Any]) -> str:
        """Return a line for each entity."""
        if not record["entities"]:
            return "nothing found"
        return "\n".join(
            f"{each['score']:8.2%}  {each['label']:<8} {each['text']}  ({each['start']}–{each['end']})"
            for each in record["entities"]
        )


def _tagged(network: Network, session: Session, texts: Sequence[str]) -> list[dict[str, Any]]:
    overlap = limit(network) // OVERLAP
    parts = [windows(each, overlap) for each in encode(reader(network, "longest_first", overlap), texts)]
    encodings = [part.encoding for each in parts for part in each]
    logits = session.run(arrays_of(encodings))["logits"]
    shares = softmax(logits.astype(np.float64))
    starts = np.cumsum([0, *(len(each.ids) for each in encodings)])
    records, first = [], 0
    for text, mine in zip(texts, parts, strict=True):
        words = list(_words(network, text, mine, shares, starts[first:]))
        records.append({"entities": [_entity(text, group, tag) for tag, group in entities(words)]})
        first += len(mine)
    return records


def _words(
    network: Network, text: str, parts: Sequence[Window], shares: np.ndarray, starts: np.ndarray
) -> Iterator[Word]:
    word: Word | None = None
    before: int | None = None
    for window, place in best_seen(parts):
        encoding = parts[window].encoding
        start, end = encoding.offsets[place]
        lead = len(text[start:end]) - len(text[start:end].lstrip())
        number = encoding.word_ids[place]
        if word is not None and number == before and start <= word.end and not lead:
            word.end = max(word.end, end)
            continue
        if word is not None:
            yield word
        share = shares[starts[window] + place]
        best = int(share.argmax())
        word, before = Word(start + lead, end, label(network, best), float(share[best])), number
    if word is not None:
        yield word


def entities(words: Sequence[Word]) -> Iterator[tuple[str, list[Word]]]:
    """Yield the runs of words that are one entity each, with its kind.

    Labels are read as BIO, BIOES or BILOU; a label without such a prefix goes on for as long as it repeats.

    >>> words = [Word(0, 3, "B-PER", .9), Word(4, 9, "I-PER", .9), Word(10, 12, "O", .9), Word(13, 18, "S-LOC", .9)]
    >>> [(kind, len(run)) for kind, run in entities(words)]
    [('PER', 2), ('LOC', 1)]
    """
    run: list[Word] = []
    kind, open_run = "", False
    for word in words:
        mark, dash, rest = word.label.partition("-")
        if not dash or mark not in ("B", "I", "E", "S", "L", "U", "M"):
            mark, rest = "I", word.label
        if not (open_run and rest == kind and mark not in ("B", "S", "U")):
            if run and kind not in OUTSIDE:
                yield kind, run
            run, kind = [], rest
        run.append(word)
        open_run = mark not in ("E", "L", "S", "U")
    if run and kind not in OUTSIDE:
        yield kind, run


def _entity(text: str, run: Sequence[Word], kind: str) -> dict[str, Any]:
    start, end = run[0].start, run[-1].end
    score = round(float(np.mean([word.score for word in run])), 6)
    return {"label": kind, "text": text[start:end], "score": score, "start": start, "end": end}
