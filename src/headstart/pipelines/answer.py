"""Answer a question with a passage of a text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from tokenizers import Encoding

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import DataError, UsageError
from headstart.core.pipeline import Pipeline
from headstart.pipelines._classes import how_many
from headstart.pipelines._text import OVERLAP, Window, arrays_of, encode, limit, plain, reader, windows

WINDOW = 384
"""Tokens that are read at once, as the networks of this kind were trained (Devlin et al. 2019)."""
LONGEST = 30
"""Tokens of an answer."""
AT_ONCE = 16


@final
class Answer(Pipeline):
    """The passage of the context that answers the question, its probability, and where it stands.

    Long contexts are read in overlapping windows. A passage's probability is its share among all passages of all
    windows and "there is no answer", so it is low where nothing fits.
    """

    options: Mapping[str, Any] = {"context": None, "top": 1}

    def supports(self, network: Network) -> str:
        """Return why the network answers no questions."""
        return "" if "answer" in network.backbone.uses else "it was not trained to find answers in a text"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return `answer`, `score`, and `start` and `end` in characters of the context, for each question.

        With `top` above 1 the best ones stand in `top`.

        Args:
            inputs: questions, or records (or their JSON) with `question` and `context`.
            options: `context`, for questions that bring none.

        Raises:
            UsageError: there is no context.
            DataError: an input is neither.
        """
        top = how_many(options["top"])
        return [_answered(network, session, *_asked(each, options["context"]), top) for each in inputs]

    def show(self, record: Mapping[str, Any]) -> str:
        """Return a line for each answer."""
        found = record.get("top", [record])
        return "\n".join(f"{each['score']:8.2%}  {each['answer']}  ({each['start']}–{each['end']})" for each in found)


def _asked(given: Any, context: Any) -> tuple[str, str]:
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            given = json.loads(given)
        except ValueError:
            given = str(given)
    if isinstance(given, Mapping):
        if "question" not in given:
            raise DataError("A record without 'question' cannot be answered.", allowed="It has question and context.")
        given, context = given["question"], given.get("context", context)
    question = plain(given)
    if not question.strip():
        raise DataError("The question is empty.")
    if not isinstance(context, str) or not context.strip():
        raise UsageError(
            "A question needs a text that holds the answer.", hint='Give it with --context "…", or --context FILE.'
        )
    return question, plain(context)


def _answered(network: Network, session: Session, question: str, context: str, top: int) -> dict[str, Any]:
    length = min(WINDOW, limit(network))
    overlap = length // OVERLAP
    asked = len(reader(network).encode(question, add_special_tokens=False).ids)
    if asked > length - 3 * overlap // 2:
        raise DataError(
            f"The question has {asked} tokens.", allowed=f"The model reads {length} at once.", hint="Ask more briefly."
        )
    encoding = encode(reader(network, "only_second", overlap, length), [(question, context)])[0]
    parts = windows(encoding, overlap, sequence=1)
    total = parts[-1].first + len(parts[-1].places)
    if not total:
        raise DataError("The context has no token that the model knows.")
    scores, none = np.full((total, LONGEST), -np.inf), np.inf
    for start in range(0, len(parts), AT_ONCE):
        none = min(none, _read(session, parts[start : start + AT_ONCE], scores))
    peak = max(scores.max(), none)
    whole = np.exp(scores - peak).sum() + np.exp(none - peak)
    spans = _spans(parts, context)
    found: list[dict[str, Any]] = []
    for at in np.argsort(-scores, axis=None, kind="stable")[: 50 * top]:
        first, more = divmod(int(at), LONGEST)
        if scores[first, more] == -np.inf or len(found) == top:
            break
        start, end = spans[first][0], spans[first + more][1]
        score = round(float(np.exp(scores[first, more] - peak) / whole), 6)
        if not any(each["start"] == start and each["end"] == end for each in found):
            found.append({"answer": context[start:end], "score": score, "start": start, "end": end})
    return {**found[0], "top": found} if top > 1 else found[0]


def _read(session: Session, parts: Sequence[Window], scores: np.ndarray) -> float:
    """Put the score of each passage, by its first token and how many more, into `scores`; return that of no answer."""
    given = session.run(arrays_of([part.encoding for part in parts]))
    starts, ends = given["start"].astype(np.float64), given["end"].astype(np.float64)
    none, at = np.inf, 0
    for part in parts:
        begin, stop = starts[at + part.places], ends[at + part.places]
        for more in range(min(LONGEST, len(part.places))):
            count = len(part.places) - more
            row = scores[part.first : part.first + count, more]
            np.maximum(row, begin[:count] + stop[more:], out=row)
        outside = at + _outside(part.encoding)
        none = min(none, starts[outside] + ends[outside])
        at += len(part.encoding.ids)
    return float(none)


def _outside(encoding: Encoding) -> int:
    """Return the place of the special token that stands for "no answer": the first one."""
    return next((at for at, of in enumerate(encoding.sequence_ids) if of is None), 0)


def _spans(parts: Sequence[Window], context: str) -> list[tuple[int, int]]:
    """Return where the word of each token of the context begins and ends."""
    found: list[tuple[int, int]] = []
    words: list[int | None] = []
    for part in parts:
        for place in part.places[len(found) - part.first :]:
            start, end = part.encoding.offsets[place]
            lead = len(context[start:end]) - len(context[start:end].lstrip())
            found.append((min(start + lead, end), end))
            words.append(part.encoding.word_ids[place])
    begin = 0
    for at in range(1, len(found) + 1):
        if at == len(found) or words[at] != words[at - 1] or found[at][0] > found[at - 1][1]:
            found[begin:at] = [(found[begin][0], found[at - 1][1])] * (at - begin)
            begin = at
    return found
