"""Say where somebody speaks in a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.pipeline import Pipeline
from headstart.modalities import _samples
from headstart.pipelines._voice import RATE, Cut, stretches


@final
class Speech(Pipeline):
    """The stretches of speech in a recording, found by a voice detector, in constant memory."""

    options: Mapping[str, Any] = {"threshold": 0.5, "silence": 0.1, "speech": 0.25}

    def supports(self, network: Network) -> str:
        """Return why the network is no voice detector."""
        return "" if "speech" in network.backbone.uses else "it is no voice detector"

    def run(
        self, network: Network, session: Session, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return `segments`, each with its `start` and `end` in seconds, and `seconds` of speech in all.

        Raises:
            DataError: a recording cannot be read.
        """
        cut = Cut(float(options["threshold"]), float(options["silence"]), float(options["speech"]))
        records = []
        for cell in inputs:
            found = [
                {"start": round(start, 3), "end": round(start + len(samples) / RATE, 3)}
                for start, samples in stretches(session, _samples.pieces(cell, RATE), cut)
            ]
            seconds = sum(each["end"] - each["start"] for each in found)
            records.append({"segments": found, "seconds": round(seconds, 3)})
        return records

    def show(self, record: Mapping[str, Any]) -> str:
        """Return a line for each stretch."""
        lines = [f"{each['start']:9.2f} – {each['end']:.2f} s" for each in record["segments"]]
        return "\n".join([*lines, f"{record['seconds']:.2f} s of speech"])
