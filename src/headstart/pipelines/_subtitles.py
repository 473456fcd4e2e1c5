"""Transcripts as files: plain text, SubRip, WebVTT and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.core.errors import UsageError
from headstart.core.files import write_text

SUFFIXES = (".txt", ".srt", ".vtt", ".json")


def write(records: Sequence[Mapping[str, Any]], out: Path) -> bool:
    """Write transcripts, atomically, and return whether the suffix is one of `SUFFIXES`.

    Raises:
        UsageError: several transcripts are to become one file of subtitles.
    """
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        return False
    if suffix in (".srt", ".vtt") and len(records) > 1:
        raise UsageError(
            f"One file of subtitles cannot hold {len(records)} recordings.",
            allowed="Several transcripts can be written as .txt, .json, .csv, .jsonl or .parquet.",
        )
    if suffix == ".txt":
        write_text(out, "".join(f"{each['text']}\n" for each in records))
    elif suffix == ".json":
        held: Any = [dict(each) for each in records]
        write_text(out, json.dumps(held[0] if len(held) == 1 else held, ensure_ascii=False, indent=2) + "\n")
    else:
        write_text(out, subtitles(records[0]["segments"], suffix == ".vtt"))
    return True


def subtitles(segments: Sequence[Mapping[str, Any]], vtt: bool) -> str:
    """Return segments as SubRip, or as WebVTT.

    >>> print(subtitles([{"start": 0.5, "end": 3661.25, "text": "hello"}], False))
    1
    00:00:00,500 --> 01:01:01,250
    hello
    <BLANKLINE>
    """
    parts = ["WEBVTT\n"] if vtt else []
    for number, each in enumerate(segments, 1):
        # Neither kind of file may hold an arrow or an empty line within a text.
        text = " ".join(str(each["text"]).split()).replace("-->", "→")
        if vtt:
            text = text.replace("&", "&amp;").replace("<", "&lt;")
        times = f"{_clock(each['start'], vtt)} --> {_clock(each['end'], vtt)}"
        parts.append(f"{times}\n{text}\n" if vtt else f"{number}\n{times}\n{text}\n")
    return "\n".join(parts)


def _clock(seconds: float, vtt: bool) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    mark = "." if vtt else ","
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
