"""Write down what is said in a recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.blob import Blob
from headstart.core.errors import UsageError
from headstart.core.pipeline import Pipeline
from headstart.modalities import _samples
from headstart.pipelines import _subtitles
from headstart.pipelines._dictation import Segment, segments
from headstart.pipelines._voice import RATE, Cut, stretches

SPOKEN = Cut(silence=0.4, margin=0.2, longest=28.0)
"""How silence is cut out before speech is written down."""


@final
class Transcribe(Pipeline):
    """A transcript with times, from a recording of any length, or from a stream of samples; in constant memory.

    Options: `language`, a code such as `en` (None: the network finds out); `timestamps`, whether each word's time is
    given too (False: networks that write times do without); `window` and `overlap`, in seconds, of what letter by
    letter networks read at a time, and `beams`, among how many beginnings they look for the likeliest letters (1: each
    moment's likeliest letter is taken); `vad`, the session of a voice detector, without which silence is read too.
    """

    options: Mapping[str, Any] = {
        "language": None,
        "timestamps": None,
        "window": 20.0,
        "overlap": 3.0,
        "beams": 1,
        "vad": None,
    }

    def supports(self, network: Network) -> str:
        """Return why the network writes nothing down."""
        return "" if "transcribe" in network.backbone.uses else "it does not write down speech"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return for each recording its `text`, and `segments` with `start`, `end`, `text`, and `words` if asked for.

        Raises:
            DataError: a recording cannot be read.
        """
        records = []
        for cell in inputs:
            pieces = _samples.pieces(cell, _samples.sampling_rate(network.preprocessing))
            found = list(_heard(network, session, pieces, options))
            if not options["timestamps"]:
                found = [{name: each[name] for name in ("start", "end", "text")} for each in found]
            records.append({"text": " ".join(each["text"] for each in found), "segments": found})
        return records

    def stream(self, network: Network, session: Session, given: Any, options: Mapping[str, Any]) -> Iterator[str]:
        """Yield the text of each segment as soon as it has been spoken.

        Args:
            given: a recording, or an iterable of chunks as they come from a microphone: samples (n,) at the network's
                rate, or `{"samples": (n,), "rate": …}`.

        Raises:
            DataError: a chunk is no sound.
        """
        rate = _samples.sampling_rate(network.preprocessing)
        whole = isinstance(given, (str, bytes, bytearray, memoryview, Blob, Mapping, np.ndarray))
        pieces = _samples.pieces(given, rate) if whole else _samples.live(given, rate)
        first = True
        for segment in _heard(network, session, pieces, options):
            yield segment["text"] if first else f" {segment['text']}"
            first = False

    def show(self, record: Mapping[str, Any]) -> str:
        """Return the text; with times, where words have them."""
        if not any("words" in each for each in record["segments"]):
            return str(record["text"])
        return "\n".join(f"{each['start']:8.2f} – {each['end']:<8.2f} {each['text']}" for each in record["segments"])

    def write(self, records: Sequence[Mapping[str, Any]], inputs: Sequence[Any], out: Path) -> bool:
        """Write .txt, .srt, .vtt or .json; other suffixes are tables.

        Raises:
            UsageError: several recordings are to become one file of subtitles.
        """
        return _subtitles.write(records, out)


def _heard(
    network: Network, session: Session, pieces: Iterable[np.ndarray], options: Mapping[str, Any]
) -> Iterator[Segment]:
    detector = options["vad"]
    if detector is None:
        yield from segments(network, session, pieces, options)
        return
    if not isinstance(detector, Session):
        raise UsageError(f"'{detector}' is not an opened voice detector.", hint="Name one with --vad local:PATH.onnx")
    rate = _samples.sampling_rate(network.preprocessing)
    if rate != RATE:
        raise UsageError(f"This network reads {rate} samples a second, and voice detectors {RATE}.", hint="Omit --vad.")
    for start, samples in stretches(detector, pieces, SPOKEN):
        for segment in segments(network, session, [samples], options):
            yield _moved(segment, start)


def _moved(segment: Segment, seconds: float) -> Segment:
    times = {name: round(segment[name] + seconds, 3) for name in ("start", "end")}
    inner = {"words": [_moved(each, seconds) for each in segment["words"]]} if "words" in segment else {}
    return {**segment, **times, **inner}
