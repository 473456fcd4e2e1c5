"""Answer questions from a user's FAQ: by what stands there, or in the words of a model that has read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from headstart.core.backbone import Network
from headstart.core.errors import DataError, UsageError
from headstart.core.progress import Progress, Quiet
from headstart.core.source import ReadOptions
from headstart.pipelines._chat import template_of
from headstart.pipelines._text import limit, reader
from headstart.stages.faq import read_faq
from headstart.stages.networks import DEFAULT, open_network
from headstart.stages.pretrained import Pretrained, pretrained
from headstart.stages.read import describe
from headstart.stages.retrieve import Found, Shelf, Trust

UNKNOWN = "I do not know."
TOLD = (
    "Answer the question from the numbered passages alone, in a few sentences. "
    f'Where they do not hold the answer, say: "{UNKNOWN}"'
)
"""What a model that writes is told beforehand."""
PASSAGE = 400
"""Tokens of a passage, but for the first, that are handed to it."""
TEMPLATE = 64
"""Tokens that a chat template may add."""
WRITTEN = 256
"""Tokens of an answer at the most."""
REMEMBERED = 4
"""Messages before a question that a model that writes is told."""


@final
class Chat:
    """A chatbot over a FAQ: each answer comes with its sources and with how sure it is.

    Args:
        shelf: the entries.
        generator: a model that writes the answer from what was found; None answers with the entry itself.
        top: entries that are shown, and handed to the model.
        threshold: the confidence below which it says that it does not know.
    """

    def __init__(self, shelf: Shelf, generator: Pretrained | None, top: int, threshold: float) -> None:
        self.shelf, self.generator, self.top, self.threshold = shelf, generator, top, threshold
        self.said: list[dict[str, str]] = []

    def ask(self, question: str, hear: Callable[[str], None] | None = None) -> dict[str, Any]:
        """Answer one question.

        Args:
            question: what is asked.
            hear: is told a written answer piece by piece, as it comes.

        Returns:
            `answer`; `known`, whether there is one; `confidence`; `written`, whether a model wrote it; and `sources`,
            the nearest entries with `question`, `answer`, `place` and `score`, best first.

        Raises:
            DataError: the question is empty.
        """
        if not question.strip():
            raise DataError("The question is empty.", hint="Ask something.")
        found, confidence = self.shelf.search(question, self.top)
        known = confidence >= self.threshold
        written = known and self.generator is not None
        answer = self._written(question, found, hear) if written else found[0].entry.answer if known else UNKNOWN
        self.said += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return {
            "answer": answer,
            "known": known,
            "confidence": round(confidence, 4),
            "written": written,
            "sources": [
                {
                    "question": each.entry.title,
                    "answer": each.entry.answer,
                    "place": each.entry.place,
                    "score": each.score,
                }
                for each in found
            ],
        }

    def _written(self, question: str, found: Sequence[Found], hear: Callable[[str], None] | None) -> str:
        assert self.generator is not None
        given, options = self._prompt(question, found)
        parts = []
        for part in self.generator.stream(given, **options):
            parts.append(part)
            if hear is not None:
                hear(part)
        return "".join(parts).strip()

    def _prompt(self, question: str, found: Sequence[Found]) -> tuple[Any, Mapping[str, Any]]:
        """Return what the model is asked: as many passages as it can read beside its answer."""
        assert self.generator is not None
        network = self.generator.network
        room = limit(network)
        longest = min(WRITTEN, room // 3)
        left = room - longest - TEMPLATE - _tokens(network, f"{TOLD}{question}")
        passages: list[str] = []
        for number, each in enumerate(found, start=1):
            title = f"{each.entry.title}\n" if each.entry.questions else ""
            passage = _shortened(network, f"[{number}] {title}{each.entry.answer}", left if not passages else PASSAGE)
            size = _tokens(network, passage)
            if passages and size > left:
                break
            passages.append(passage)
            left -= size + 2
        asked = "\n\n".join([TOLD, *passages, f"Question: {question}"])
        options = {"max_tokens": longest, "temperature": 0.0}
        if not template_of(network):
            return f"{asked}\nAnswer:", {**options, "stop": ["\nQuestion:", "\n\n"]}
        before = self.said[-REMEMBERED:]
        if sum(_tokens(network, each["content"]) + TEMPLATE // 4 for each in before) > left:
            before = []
        # What it is told goes with the question: some templates have no place for a system's words.
        return [*before, {"role": "user", "content": asked}], options


def _tokens(network: Network, text: str) -> int:
    return len(reader(network).encode(text, add_special_tokens=False).ids)


def _shortened(network: Network, text: str, most: int) -> str:
    """Return a text cut to so many tokens."""
    offsets = reader(network).encode(text, add_special_tokens=False).offsets
    return text if len(offsets) <= most else text[: offsets[max(most, 1) - 1][1]]


def chat(
    source: Any,
    *,
    generator: str = "",
    backbone: str = "auto",
    input: str = "",
    target: str = "",
    top: int = 3,
    threshold: float | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> Chat:
    """Read a FAQ and return a chatbot that answers from it.

    An entry is found by the cosine of its vectors with the question's, and by shared words. How sure an answer is, and
    from when on it is better to say nothing, is found out by asking the FAQ its own questions without themselves.

    Args:
        source: a table with questions and answers, Markdown with headings, a text file, or a folder of such files.
        generator: a model that writes, such as `hf:owner/name`; without one the best entry itself is the answer.
        backbone: the model that embeds; `none` compares words alone.
        input: the column of questions; found out where empty.
        target: the column of answers; found out where empty.
        top: entries that are shown, and handed to the model.
        threshold: the confidence below which it says that it does not know; found out where None.
        options: how to read a table.
        progress: what to report to.

    Raises:
        DataError: there is nothing to answer with.
        UsageError: an option cannot be used.
        HubError: a model cannot be had.
    """
    progress = progress or Quiet()
    if top < 1:
        raise UsageError(f"--top is {top}.", allowed="It is 1 or more.")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold is {threshold}.", allowed="It lies between 0 and 1.")
    entries = read_faq(source, {"input": input, "target": target}, options)
    asked = sum(len(each.questions) for each in entries)
    progress.say(f"{describe(source)}: {len(entries):,} answers, {asked:,} questions")
    reference = DEFAULT["text"] if backbone == "auto" else backbone
    opened = open_network(reference, "", progress) if backbone != "none" else None
    shelf = Shelf(entries, opened, progress)
    _tell(shelf.trust, progress)
    writer = pretrained(generator, task="generate", progress=progress) if generator else None
    return Chat(shelf, writer, top, shelf.trust.threshold if threshold is None else threshold)


def _tell(trust: Trust, progress: Progress) -> None:
    """Tell how the FAQ did when it was asked its own questions."""
    told = []
    if trust.right is not None:
        told.append(f"{trust.right:.0%} answered rightly without themselves")
    if trust.silent is not None:
        told.append(f"{trust.silent:.0%} left unanswered without their answers")
    if told:
        progress.say(f"asked its own questions: {'; '.join(told)} (threshold {trust.threshold:.2f})")
