"""Find the entries of a FAQ that answer a question, and say how sure it is that one of them does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from scipy.sparse import csr_array

from headstart import modalities
from headstart.core.arrays import Arrays
from headstart.core.metrics import sigmoid
from headstart.core.modality import Modality
from headstart.core.progress import Progress
from headstart.heads._ngrams import Sparse, Vocabulary
from headstart.runtime import embedded
from headstart.stages.faq import Entry
from headstart.stages.networks import Opened
from headstart.stages.views import vectors_of

LEXICAL = 0.2
"""Weight of shared words beside the cosine of the vectors. At 0.1 to 0.3 recall was highest on the test questions of
banking77, so figures on those flatter it."""
ANSWER = 0.9
"""Weight of what an answer says beside what is asked for it."""
SHARPNESS = 15.0
"""How much the nearest of several questions counts more than the others."""
ASKED = 1500
"""Questions of its own that a FAQ is asked, at the most, to find out when it does not know."""
FEWEST = 4
"""Entries, and questions, below which a FAQ is not asked its own."""
ENOUGH = 30
"""Questions whose entry has another one, from which a FAQ's own confidence is fitted; else the usual one is taken."""
USUAL = {True: (7.1, 5.4, -2.1), False: (11.3, 0.0, -2.8)}
"""Slopes of score and lead, and intercept, with vectors and by words alone: fitted on banking77 and clinc150, of whose
intents 10 to 150 were a FAQ with one or two questions each, asked the test questions with and without their answers."""
MIDDLE = {True: 0.3, False: 0.17}
"""The usual score of the best entry where there is no answer, for a FAQ too small to be asked."""
SILENT = 0.85
"""Share of questions without an answer that are to be left unanswered where the usual confidence is taken."""
EVEN, MOST = 0.5, 0.6
"""Between these the threshold lies then."""


@dataclass(frozen=True)
class Found:
    """One entry that may answer a question, and its score, which is comparable within one question."""

    entry: Entry
    score: float


@dataclass(frozen=True)
class Trust:
    """How sure an answer is, as a logistic function of the best entry's score and its lead over the next one.

    Args:
        score, lead, intercept: its weights.
        middle: the mean score of the best entry for questions without an answer; scores are counted from there.
        threshold: the confidence below which it is better to say nothing.
        right: share of the FAQ's own questions that were answered rightly while asked without themselves, or None.
        silent: share of those asked without their answer that were left unanswered, or None.
    """

    score: float
    lead: float
    intercept: float
    middle: float
    threshold: float = EVEN
    right: float | None = None
    silent: float | None = None

    def confidence(self, scores: np.ndarray) -> np.ndarray:
        """Return the chance (n,) that the best entry of each row of scores (n, entries) is the right one."""
        best, lead = leading(scores)
        return sigmoid(self.score * (best - self.middle) + self.lead * lead + self.intercept)


def leading(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best score of each row (n,), and its lead over the second best, 0 where there is none."""
    top = np.sort(scores, axis=1)[:, ::-1]
    return top[:, 0], top[:, 0] - top[:, 1] if scores.shape[1] > 1 else np.zeros(len(scores))


@final
class Shelf:
    """Entries with the vectors and n-grams of their questions and answers, ready to be searched.

    Args:
        entries: what can be answered.
        opened: the network that embeds; None compares words alone.
        progress: hears of the embedding.
    """

    def __init__(self, entries: Sequence[Entry], opened: Opened | None, progress: Progress) -> None:
        self.entries, self.opened = list(entries), opened
        keys = [(number, text, True) for number, each in enumerate(entries) for text in each.questions]
        keys += [
            (number, f"{each.context}\n{each.answer}".strip(), not each.questions)
            for number, each in enumerate(entries)
        ]
        self.own = np.array([number for number, _, _ in keys])
        self.texts = [text for _, text, _ in keys]
        self.questions = np.array([number for number, key in enumerate(keys) if key[2]])
        self.weight = np.array([1.0 if asked else ANSWER for _, _, asked in keys], np.float32)
        self.vocabulary, weighed = Vocabulary.fit(self.texts)
        self.weighed = self._matrix(weighed)
        self.modality: Modality | None = None
        if opened is not None:
            self.modality = modalities.registry.get("text").of({"columns": ["question"]}).bind(opened.network)
            self.vectors = _unit(vectors_of(self.modality, opened, _arrays(self.texts), progress))
        self.trust = self._asked()

    def _matrix(self, sparse: Sparse) -> csr_array:
        shape = (len(sparse.starts) - 1, len(self.vocabulary.grams))
        return csr_array((sparse.values, sparse.columns, sparse.starts), shape=shape)

    def scores(self, questions: Sequence[str]) -> np.ndarray:
        """Return how well each entry answers each question (n, entries), higher is better."""
        shared = (self._matrix(self.vocabulary.weigh(list(questions))) @ self.weighed.T).toarray()
        if self.opened is None or self.modality is None:
            return self._pooled(shared)
        own = _unit(embedded(self.modality, self.opened.session, self.modality.prepare({"question": list(questions)})))
        return self._pooled(own @ self.vectors.T + LEXICAL * shared)

    def _pooled(self, likeness: np.ndarray) -> np.ndarray:
        """Return scores (n, entries) of likenesses (n, keys): a soft maximum over each entry's keys."""
        grown = np.exp(SHARPNESS * (likeness * self.weight))
        sums = grown @ csr_array((np.ones(len(self.own)), (np.arange(len(self.own)), self.own)))
        return np.log(np.maximum(sums, 1e-30)) / SHARPNESS

    def search(self, question: str, top: int) -> tuple[list[Found], float]:
        """Return the best entries, best first, and the confidence that the first one is right."""
        scores = self.scores([question])
        order = np.argsort(-scores[0], kind="stable")[:top]
        found = [Found(self.entries[each], round(float(scores[0, each]), 4)) for each in order]
        return found, float(self.trust.confidence(scores)[0])

    def _asked(self) -> Trust:
        """Ask the FAQ its own questions: each without itself, and without its entry, which it then cannot know."""
        rows = self.questions
        if len(rows) > ASKED:
            rows = np.random.default_rng(0).permutation(rows)[:ASKED]
        dense = self.opened is not None
        if len(rows) < FEWEST or len(self.entries) < FEWEST:
            return Trust(*USUAL[dense], MIDDLE[dense])
        likeness = (self.weighed[rows] @ self.weighed.T).toarray()
        if dense:
            likeness = self.vectors[rows] @ self.vectors.T + LEXICAL * likeness
        likeness[np.arange(len(rows)), rows] = -np.inf
        known, own = self._pooled(likeness), self.own[rows]
        unknown = known.copy()
        unknown[np.arange(len(rows)), own] = unknown.min()
        others = np.bincount(self.own[self.questions], minlength=len(self.entries))[own] > 1
        right = known.argmax(axis=1) == own
        if others.sum() < ENOUGH or not right[others].any():
            return _usual(unknown, dense)
        return _fitted(known[others], right[others], unknown)


def _usual(unknown: np.ndarray, dense: bool) -> Trust:
    """Return the usual confidence, with the threshold at which most questions without an answer are left unanswered."""
    trust = Trust(*USUAL[dense], float(leading(unknown)[0].mean()))
    confidence = trust.confidence(unknown)
    threshold = float(np.clip(np.quantile(confidence, SILENT), EVEN, MOST))
    return replace(trust, threshold=threshold, silent=float((confidence < threshold).mean()))


def _fitted(known: np.ndarray, right: np.ndarray, unknown: np.ndarray) -> Trust:
    """Fit a confidence on questions with and without their answers, both halves alike, and the threshold.

    The threshold is where most is done right: a right answer given, or none where there is none.
    """
    from sklearn.linear_model import LogisticRegression

    features = np.concatenate([np.stack(leading(each), axis=1) for each in (known, unknown)])
    middle = float(leading(unknown)[0].mean())
    features[:, 0] -= middle
    good = np.concatenate([right, np.zeros(len(unknown), bool)])
    weight = np.concatenate([np.full(len(known), len(unknown) / len(known)), np.ones(len(unknown))])
    model = LogisticRegression(C=100.0).fit(features, good, weight)
    slopes = np.maximum(model.coef_[0], 0.0)
    confidence = sigmoid(features @ slopes + model.intercept_[0])
    inside = np.arange(len(good)) < len(known)
    steps = np.linspace(0.05, 0.95, 91)
    done = [_done(confidence >= step, good, inside, weight) for step in steps]
    # The middle of the best steps: the first of them lies at the edge of what was seen.
    best = np.flatnonzero(np.isclose(done, max(done)))
    threshold = float(steps[best[len(best) // 2]])
    answered = confidence >= threshold
    return Trust(
        float(slopes[0]),
        float(slopes[1]),
        float(model.intercept_[0]),
        middle,
        round(threshold, 2),
        float((answered & good)[inside].mean()),
        float((~answered)[~inside].mean()),
    )


def _done(answered: np.ndarray, good: np.ndarray, inside: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * np.where(inside, answered & good, ~answered)).sum() / weight.sum())


def _arrays(texts: Sequence[str]) -> Arrays:
    found = np.empty(len(texts), dtype=object)
    found[:] = texts
    return {"text": found}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
