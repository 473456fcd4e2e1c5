"""From samples to segments of text, by the two ways that networks write down speech."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError
from headstart.modalities import _samples
from headstart.pipelines import _ctc

PAUSE = 0.6
"""Seconds between words that end a segment."""
LONGEST = 12.0
"""Seconds after which a segment ends with its word anyway."""
SHORTEST = 1.0
"""Seconds that a window moves on at least."""

Segment = dict[str, Any]
"""`start` and `end` in seconds, `text`, and `words`, the same for each word, where the network gives their times."""


def segments(
    network: Network, session: Session, pieces: Iterable[np.ndarray], options: Mapping[str, Any]
) -> Iterator[Segment]:
    """Yield the segments that are spoken in samples at the network's rate, as they are found, in constant memory.

    Raises:
        UsageError: there are no such `beams`.
    """
    beams = options["beams"]
    if not str(beams).isdigit() or int(beams) < 1:
        raise UsageError(f"beams is '{beams}'.", allowed="It must be a whole number, at least 1.")
    if _samples.reads_spectra(network.preprocessing):
        if int(beams) > 1:
            raise UsageError("This network writes words, and beams are of networks that spell.", hint="Omit --beams.")
        return _written(network, session, pieces, options)
    return _spelt(network, session, pieces, options)


def _spelt(
    network: Network, session: Session, pieces: Iterable[np.ndarray], options: Mapping[str, Any]
) -> Iterator[Segment]:
    second = _ctc.stride(network) / _samples.sampling_rate(network.preprocessing)
    known = _ctc.alphabet(network)
    held: list[Segment] = []
    window, overlap = float(options["window"]), float(options["overlap"])
    tokens = _ctc.frames(network, session, pieces, window, overlap, int(options["beams"]))
    for word in _ctc.words(tokens, known):
        found = {"start": round(word.first * second, 3), "end": round(word.last * second, 3), "text": word.text}
        if held and (found["start"] - held[-1]["end"] > PAUSE or found["end"] - held[0]["start"] > LONGEST):
            yield _joined(held)
            held = []
        held.append(found)
    if held:
        yield _joined(held)


def _joined(words: list[Segment]) -> Segment:
    text = " ".join(each["text"] for each in words)
    return {"start": words[0]["start"], "end": words[-1]["end"], "text": text, "words": words}


def _written(
    network: Network, session: Session, pieces: Iterable[np.ndarray], options: Mapping[str, Any]
) -> Iterator[Segment]:
    """Read window by window; all but the last begin where the last segment that was surely whole has ended."""
    tokenizer = _tokenizer(network)
    rate = _samples.sampling_rate(network.preprocessing)
    size = int(network.preprocessing.get("chunk_length", 30)) * rate
    settings = {"language": options["language"], "timestamps": options["timestamps"] is not False}
    held, offset = np.zeros(0, np.float32), 0

    def read(samples: np.ndarray) -> list[Segment]:
        arrays = _samples.encode([samples], network.preprocessing)
        longest = len(samples) / rate
        found = []
        for each in session.generate(arrays, settings):
            start, end = float(each["start"]), min(float(each["end"]), longest)
            # A window is filled up with silence, in which these networks hear things.
            if start < longest:
                text = tokenizer.decode(each["tokens"].tolist(), skip_special_tokens=True).strip()
                found.append({"start": round(start, 3), "end": round(end, 3), "text": text})
        return found

    def moved(some: list[Segment]) -> Iterator[Segment]:
        for each in some:
            times = {name: round(each[name] + offset / rate, 3) for name in ("start", "end")}
            if each["text"]:
                yield {**each, **times}

    for piece in pieces:
        held = np.concatenate([held, piece])
        while len(held) > size:
            found = read(held[:size])
            cut = found and len(found) > 1 and found[-1]["start"] >= SHORTEST
            yield from moved(found[:-1] if cut else found)
            step = round(found[-1]["start"] * rate) if cut else size
            held, offset = held[step:], offset + step
    if len(held):
        yield from moved(read(held))


def _tokenizer(network: Network) -> Tokenizer:
    path = network.folder / "tokenizer.json"
    if not path.is_file():
        raise HubError(
            f"'{network.backbone.reference}' has no tokenizer.json.",
            hint="Save its processor into the same folder: processor.save_pretrained(folder)",
        )
    return Tokenizer.from_file(str(path))
