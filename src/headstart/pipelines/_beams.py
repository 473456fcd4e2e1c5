"""Beam search for networks that spell (CTC): the letters that are likeliest by all ways to say them, and when."""

from __future__ import annotations

import numpy as np

NEVER = -np.inf


def path(logits: np.ndarray, beams: int, blank: int) -> np.ndarray:
    """Return a token for each frame (t,) that spells the likeliest letters, as well as `beams` beginnings find them.

    Letters are likelier the more ways there are to spread them over the frames: the likeliest tokens of each frame
    alone do not know that (Graves and others 2006; Hannun and others 2014, arXiv:1408.2873, without a language model).

    Args:
        logits: (t, vocabulary).
        beams: beginnings that are kept from frame to frame.
        blank: the token that says: nothing new.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    scores = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return aligned(scores, likeliest(scores, beams, blank), blank)


def likeliest(scores: np.ndarray, beams: int, blank: int) -> tuple[int, ...]:
    """Return the likeliest tokens without repeats and blanks, by prefix beam search.

    Args:
        scores: logarithms of probabilities (t, vocabulary).
    """
    # Of each beginning: how likely it is to end in a blank, and in its last token.
    held: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, NEVER)}
    count = min(beams + 1, scores.shape[1])
    for frame in scores:
        tokens = np.argpartition(-frame, count - 1)[:count].tolist()
        quiet, each = float(frame[blank]), [(token, float(frame[token])) for token in tokens if token != blank]
        grown: dict[tuple[int, ...], tuple[float, float]] = {}
        for told, (ended, open_) in held.items():
            both = float(np.logaddexp(ended, open_))
            stays = open_ + float(frame[told[-1]]) if told else NEVER
            _add(grown, told, both + quiet, stays)
            for token, score in each:
                # The same token again is a new one only after a blank.
                _add(grown, (*told, token), NEVER, (ended if told and told[-1] == token else both) + score)
        best = sorted(grown, key=lambda told: -np.logaddexp(*grown[told]))[:beams]
        held = {told: grown[told] for told in best}
    return max(held, key=lambda told: np.logaddexp(*held[told]))


def _add(grown: dict[tuple[int, ...], tuple[float, float]], told: tuple[int, ...], ended: float, open_: float) -> None:
    before = grown.get(told, (NEVER, NEVER))
    grown[told] = (float(np.logaddexp(before[0], ended)), float(np.logaddexp(before[1], open_)))


def aligned(scores: np.ndarray, told: tuple[int, ...], blank: int) -> np.ndarray:
    """Return the likeliest token of each frame (t,) among all ways in which the frames spell `told`.

    Args:
        scores: logarithms of probabilities (t, vocabulary).
        told: tokens without repeats; the frames must do for them.
    """
    states = np.full(2 * len(told) + 1, blank)
    states[1::2] = told
    # A blank between two tokens may be left out, unless they are alike.
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(len(states), NEVER)
    best[:2] = scores[0, states[:2]]
    came = np.zeros((len(scores), len(states)), np.int64)
    for number in range(1, len(scores)):
        ways = np.stack([best, *(np.concatenate([[NEVER] * far, best])[: len(best)] for far in (1, 2))])
        ways[2, ~skips] = NEVER
        came[number] = ways.argmax(axis=0)
        best = ways.max(axis=0) + scores[number, states]
    at = len(states) - 1
    if len(states) > 1 and best[at - 1] > best[at]:
        at -= 1
    found = np.empty(len(scores), np.int64)
    for number in range(len(scores) - 1, -1, -1):
        found[number] = states[at]
        at -= came[number, at]
    return found
