"""Domain mismatch: before training, whether a pretrained network is at home with these rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from headstart.core import metrics
from headstart.core.arrays import joined_vectors, take
from headstart.core.method import Budget, Job
from headstart.core.progress import Quiet
from headstart.methods._learn import indicators
from headstart.methods._quick import held_out, sampled, stand_ins
from headstart.modalities.text import Text
from headstart.stages.prepare import Prepared
from headstart.stages.views import vectors_of

ROWS = 1_000
"""Training rows that are looked at."""
NEIGHBOURS = 5
TEXTS = 300
LONGEST = 600
"""Characters of a text whose words and pieces are counted."""
PIECES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|[^\w\s]")
"""Words, signs, and characters of scripts that put no blanks between words."""
MARKS = ("##", "▁", "Ġ", "</w>", "@@")
"""How tokenizers mark that a piece begins or goes on with a word."""
UNKNOWN = ("[UNK]", "<unk>")
LEAST = 40
"""Rows, and groups of near twins, below which nothing is said."""
APART, BROKEN, FAR = 1.4, 0.15, 0.75
"""Where texts are foreign: from so many times the pieces of a word of general English, so large a share more of broken
ones, or below so much of its nearness. English of any kind that was measured had 1.0 to 1.3 times the pieces and 0.8 to
1.1 of the nearness; German, French, Spanish, Italian and Portuguese 1.5 to 2.1 and 0.6 to 0.7."""
PROCEED, OTHER, SCRATCH = "proceed", "another backbone", "scratch"


@cache
def home() -> tuple[str, ...]:
    """Return sentences of general English, the reference for what an encoder of English is at home with."""
    return tuple((files("headstart.examples") / "english.txt").read_text(encoding="utf-8").splitlines())


def vocabulary(modality: Text, texts: Sequence[str]) -> dict[str, float]:
    """Return how a tokenizer takes texts apart: `tokens_per_word`, and the share of `broken` pieces.

    A piece is broken where the tokenizer does not know it, or is left with a single letter.
    """
    if modality.tokenizer is None:
        raise TypeError("This text modality is not bound to a network.")
    cut = [text[:LONGEST] for text in texts]
    words = sum(len(PIECES.findall(text)) for text in cut)
    encoded = modality.tokenizer.encode_batch(cut, add_special_tokens=False)  # The fast one leaves the pieces out.
    tokens = [token for each in encoded for token in each.tokens]
    broken = sum(token in UNKNOWN or token.startswith("<0x") or _letter(token) for token in tokens)
    return {"tokens_per_word": len(tokens) / max(words, 1), "broken": broken / max(len(tokens), 1)}


def _letter(token: str) -> bool:
    for mark in MARKS:
        token = token.replace(mark, "")
    return len(token) == 1 and token.isalpha()


def neighbours(job: Job, points: np.ndarray) -> np.ndarray:
    """Return scores (n, width) of each row by its nearest rows of other groups, the nearer the more they count.

    Args:
        points: (n, d) unit vectors.
    """
    y = indicators(job.task, job.y)
    similarity = points @ points.T
    similarity[job.groups[:, None] == job.groups[None, :]] = -np.inf
    nearest = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    weight = np.exp(10 * np.take_along_axis(similarity, nearest, axis=1).clip(-1, 1))
    weight /= weight.sum(axis=1, keepdims=True)
    votes = (y[nearest] * weight[:, :, None]).sum(axis=1)
    if job.task.width == 1:
        return votes
    # Scores are logits.
    votes = votes.clip(1e-6, 1 - 1e-6)
    return np.log(votes) - np.log1p(-votes)


def look(prepared: Prepared, name: str, seed: int, text: Mapping[str, float]) -> dict[str, Any]:
    """Return what can be said of one target before training; empty where no pretrained network reads the rows.

    Args:
        text: what `texts` gives.

    Returns:
        `advice` (`proceed`, `another backbone` or `scratch`), `sentence`, `number` (the lead of frozen features over
        training from scratch, in the task's primary metric, on `rows` training rows) with `number_ci`, and what it
        rests on: `neighbours`, `majority`, `probe`, `scratch`, `text`.
    """
    rows = prepared.rows(name, test=False)
    if "embedding" not in prepared.features or len(rows) < LEAST:
        return {}
    features = take(prepared.features, rows)
    job = Job(
        prepared.tasks[name], prepared.encoded(name, rows), features, prepared.groups[rows], seed, Budget(), 1, Quiet()
    )
    job = sampled(job, ROWS)
    if len(np.unique(job.groups)) < LEAST:
        return {}
    task, made = job.task, stand_ins(job)
    constant = task.correct(np.tile(task.majority(), (len(job.y), 1)), job.y)
    near = task.correct(neighbours(job, job.features["embedding"]), job.y)
    right = {each: task.correct(held_out(stand_in, job), job.y) for each, stand_in in made.items()}
    rival = right.get("scratch", constant)
    found: dict[str, Any] = {
        "rows": len(job.y),
        "majority": float(constant.mean()),
        "neighbours": float(near.mean()),
        "neighbours_over_scratch_ci": metrics.mean_interval(near - rival),
        **{each: float(value.mean()) for each, value in right.items()},
        "number": float((right["probe"] - rival).mean()),
        "number_ci": metrics.mean_interval(right["probe"] - rival),
    }
    found |= {"text": dict(text)} if text else {}
    return {**found, **advise(name, found, percent=task.primary != "r2")}


def texts(prepared: Prepared) -> dict[str, float]:
    """Return how the text encoder takes the texts, beside general English: its pieces, and how near it puts them to it.

    `nearness` is the cosine to the nearest sentence of general English, `home_nearness` that of these to each other.
    Empty where no network reads texts.
    """
    rows = np.flatnonzero(~prepared.test)
    for modality in prepared.inputs:
        if not isinstance(modality, Text) or modality.tokenizer is None:
            continue
        some = prepared.features["text"][rows[:: max(1, len(rows) // TEXTS)][:TEXTS]]
        own, at_home = vocabulary(modality, list(some)), vocabulary(modality, home())
        sentences, running = np.array(home(), dtype=object), prepared.opened["text"]
        there, here = (
            joined_vectors([vectors_of(modality, running, {"text": each}, Quiet())]) for each in (sentences, some)
        )
        among = there @ there.T
        np.fill_diagonal(among, -1.0)
        own["nearness"] = float((here @ there.T).max(axis=1).mean())
        at_home["nearness"] = float(among.max(axis=1).mean())
        return {**own, **{f"home_{name}": value for name, value in at_home.items()}}
    return {}


def advise(name: str, found: Mapping[str, Any], *, percent: bool) -> dict[str, str]:
    """Return `advice`, the `sentence` that gives it, and the figures `basis` that it rests on.

    Args:
        name: the target.
        found: the figures of `look`.
        percent: whether scores are shares of rows, and not R².
    """
    low, high = found["number_ci"]
    foreign = _foreign(found.get("text", {}))
    # What the network puts near each other answers alike where it was made for such questions, and not where it sorts
    # by topic and is asked for a mood.
    askew = found["neighbours_over_scratch_ci"][1] < 0
    if high < 0:
        advice, why = SCRATCH, "train from scratch, frozen features do worse"
    elif low <= 0:
        advice, why = SCRATCH, "train from scratch, frozen features do no better"
    elif foreign:
        advice, why = OTHER, "prefer another backbone, this one does not know such texts"
    elif askew:
        advice, why = OTHER, "prefer another backbone or change its weights, this one sorts the rows by something else"
    else:
        advice, why = PROCEED, "proceed, this backbone is at home here"
    lead = f"{_signed(found['number'], percent)} [{_signed(low, percent)}, {_signed(high, percent)}]"
    sentence = f"{name}: {why} ({lead} over from scratch on {found['rows']:,} training rows)."
    shown = {each: _shown(found[each], percent) for each in ("neighbours", "scratch", "majority") if each in found}
    basis = f"The {NEIGHBOURS} nearest rows alone answer {shown['neighbours']}"
    basis += f", a model from scratch {shown['scratch']}" if "scratch" in shown else ""
    basis += f", the most common answer {shown['majority']}{'; ' if foreign else ''}{foreign}."
    return {"advice": advice, "sentence": sentence, "basis": basis}


def _foreign(text: Mapping[str, float]) -> str:
    """Return that texts are far from what an encoder of English is at home with, or an empty text."""
    if not text:
        return ""
    words, home_words = text["tokens_per_word"], text["home_tokens_per_word"]
    near, home_near = text["nearness"], text["home_nearness"]
    apart = words >= APART * home_words or text["broken"] >= text["home_broken"] + BROKEN
    if not apart and near >= FAR * home_near:
        return ""
    return (
        f"words are cut into {words:.2f} pieces (general English {home_words:.2f}), {text['broken']:.0%} of them are "
        f"unknown or single letters ({text['home_broken']:.0%}), the nearest general sentence has cosine {near:.2f} "
        f"({home_near:.2f})"
    )


def _shown(score: float, percent: bool) -> str:
    return f"{100 * score:.1f} %" if percent else f"R² {score:.3f}"


def _signed(value: float, percent: bool) -> str:
    return f"{100 * value:+.1f}" if percent else f"{value:+.3f}"
