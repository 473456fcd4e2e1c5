"""Recordings written down, in OpenAI's form."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from headstart.core.registry import require
from headstart.pipelines._subtitles import subtitles
from headstart.server.errors import json_response
from headstart.server.protocols import _params
from headstart.server.requests.rows import short
from headstart.server.requests.uploads import Form, read_form
from headstart.server.service import Service

TASK = "transcribe"
FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
KNOWN = ("model", "language", "prompt", "response_format", "temperature", "timestamp_granularities", "stream")
GRANULARITIES = ("word", "segment")
SUBTITLES = {"srt": "application/x-subrip", "vtt": "text/vtt"}


async def transcribe(service: Service, request: Request) -> Response:
    """Write down the recording of a form."""
    form = await read_form(await service.body(request), request.headers.get("content-type", ""))
    fields = _fields(form)
    served = service.shelf.find(str(fields.get("model", "")))
    if served.task != TASK:
        raise _params.bad(
            f"The model '{served.name}' does not write down recordings",
            "Networks of speech that are served with --task transcribe do",
        )
    recording, how = _recording(form), _params.text(fields, "response_format", FORMATS) or "json"
    words = "word" in fields["timestamp_granularities"]
    if words and how != "verbose_json":
        raise _params.bad("Times of words are asked for", "They stand in response_format=verbose_json alone")
    options = {"timestamps": True} if words else {}
    if fields.get("language"):
        options["language"] = fields["language"]
    (record,) = await service.answer(request, served, [{served.fields.main: recording}], options)
    seconds = await service.in_pool(_seconds, recording)
    return _told(record, how, seconds, str(fields.get("language", "")), words)


def _fields(form: Form) -> dict[str, Any]:
    """Return the form's texts by name, each once, those that are not supported refused."""
    fields: dict[str, Any] = {}
    several = [*form.texts.get("timestamp_granularities[]", ()), *form.texts.get("timestamp_granularities", ())]
    for each in several:
        if each not in GRANULARITIES:
            raise _params.bad(f"A timestamp granularity is '{short(each)}'", "It is word or segment")
    for name, values in form.texts.items():
        plain = name.removesuffix("[]")
        if plain in _params.HARMLESS or plain == "timestamp_granularities":
            continue
        if plain not in KNOWN:
            raise _params.bad(f"The field '{short(name)}' is not supported", f"Fields: file, {', '.join(KNOWN)}")
        if len(values) > 1:
            raise _params.bad(f"The form has '{short(name)}' {len(values)} times", "Once is enough")
        if values[0]:
            fields[plain] = values[0]
    if fields.get("prompt"):
        raise _params.bad("'prompt' is not supported by this server", "Leave it out")
    if fields.get("stream", "false").casefold() not in ("false", "0"):
        raise _params.bad("'stream' is not supported for recordings", "The transcript comes whole")
    if fields.get("temperature", "0").rstrip("0").rstrip(".") not in ("", "0"):
        raise _params.bad(f"'temperature' is {short(fields['temperature'])}", "Only 0: the likeliest words are written")
    fields["timestamp_granularities"] = several
    return fields


def _recording(form: Form) -> bytes:
    files = [each for values in form.files.values() for each in values]
    if len(files) != 1 or "file" not in form.files:
        raise _params.bad(f"The form has {len(files)} files", "One recording, called 'file'")
    if not files[0]:
        raise _params.bad("The file is empty", "A recording: wav, flac, mp3 or ogg")
    return files[0]


def _seconds(recording: bytes) -> float:
    """Return how long a recording is that has been read already; 0 where its header does not say."""
    sounds = require("soundfile", "audio")
    with sounds.SoundFile(io.BytesIO(recording)) as opened:
        length = opened.frames / opened.samplerate
    return round(length, 3) if length < 1e6 else 0.0


def _told(record: Mapping[str, Any], how: str, seconds: float, language: str, words: bool) -> Response:
    text = str(record["text"])
    if how == "text":
        return Response(f"{text}\n", media_type="text/plain")
    if how in SUBTITLES:
        return Response(subtitles(record["segments"], how == "vtt"), media_type=SUBTITLES[how])
    usage = {"type": "duration", "seconds": seconds}
    if how == "json":
        return json_response({"text": text, "usage": usage})
    segments = [
        {"id": number, "seek": 0, "start": each["start"], "end": each["end"], "text": each["text"]}
        for number, each in enumerate(record["segments"])
    ]
    told: dict[str, Any] = {"task": TASK, "language": language, "duration": seconds, "text": text, "usage": usage}
    told["segments"] = segments
    if words:
        told["words"] = [
            {"word": each["text"], "start": each["start"], "end": each["end"]}
            for segment in record["segments"]
            for each in segment.get("words", ())
        ]
    return json_response(told)
