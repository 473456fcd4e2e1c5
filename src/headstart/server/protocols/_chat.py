"""Texts that a network writes, in OpenAI's form: whole, or as server-sent events."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import orjson
from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from headstart.core.errors import HeadstartError, RequestError, UsageError
from headstart.core.pipeline import Ended
from headstart.pipelines.generate import Generate
from headstart.server.errors import json_response
from headstart.server.models.piped import Piped
from headstart.server.protocols import _params
from headstart.server.requests.rows import kind, short
from headstart.server.service import Service

TASK = "generate"
ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
SHARED = (
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "n",
    "stream",
    "stream_options",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
)
REFUSED: Mapping[str, Sequence[Any]] = {
    "n": (1,),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
}
CHAT_REFUSED: Mapping[str, Sequence[Any]] = {
    **REFUSED,
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
}
PLAIN_REFUSED: Mapping[str, Sequence[Any]] = {
    **REFUSED,
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (),
    "suffix": ("",),
}
MOST_STOPS = 4
SECONDS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
FINISHED = {"length": "length"}
"""What ended a text, in OpenAI's words, where it is not `stop`."""


@final
@dataclass(frozen=True)
class _Form:
    """How a kind of answer is written: its ids' beginning, its object's names, and what a choice holds."""

    prefix: str
    whole: str
    piece: str
    chat: bool

    def choice(self, text: str, finish: str | None, *, whole: bool, first: bool = False) -> dict[str, Any]:
        """Return one choice, whole or in part."""
        held: dict[str, Any]
        if not self.chat:
            held = {"text": text}
        elif whole:
            held = {"message": {"role": "assistant", "content": text, "refusal": None}}
        else:
            held = {"delta": {**({"role": "assistant"} if first else {}), **({"content": text} if text else {})}}
        return {"index": 0, **held, "logprobs": None, "finish_reason": finish}


CHAT = _Form("chatcmpl", "chat.completion", "chat.completion.chunk", True)
PLAIN = _Form("cmpl", "text_completion", "text_completion", False)


async def chat(service: Service, request: Request) -> Response:
    """Answer in a conversation."""
    known = (*SHARED, "messages", "max_completion_tokens", *CHAT_REFUSED)
    given = _params.read_object(await service.body(request), known)
    _params.refuse(given, CHAT_REFUSED)
    served = _writer(service, given)
    return await _written(service, request, served, [_messages(given)], given, CHAT)


async def complete(service: Service, request: Request) -> Response:
    """Continue one text or several."""
    given = _params.read_object(await service.body(request), (*SHARED, "prompt", *PLAIN_REFUSED))
    _params.refuse(given, PLAIN_REFUSED)
    served = _writer(service, given)
    prompts = _prompts(given)
    service.check_count(len(prompts))
    return await _written(service, request, served, prompts, given, PLAIN)


def _writer(service: Service, given: Mapping[str, Any]) -> Piped:
    served = service.shelf.find(_params.text(given, "model"))
    if served.task != TASK or not isinstance(served, Piped):
        does = "predicts columns" if served.task == "columns" else f"is served to {served.task.replace('_', ' ')}"
        raise _params.bad(
            f"The model '{served.name}' {does}; it does not write texts",
            "Networks that write, and those that fit --task generate has tuned, do",
            f"Ask it with: POST /models/{served.name}/predict",
        )
    return served


def _messages(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _params.bad("'messages' is not a conversation", 'It is [{"role": "user", "content": "Hello"}, …]')
    found = []
    for number, each in enumerate(messages, start=1):
        role = each.get("role") if isinstance(each, dict) else None
        if not isinstance(role, str) or role not in ROLES:
            raise _params.bad(f"Message {number} has no role that is known", f"Roles: {', '.join(ROLES)}")
        if each.get("tool_calls"):
            raise _params.bad(f"Message {number} has 'tool_calls'", "Tools are not supported by this server")
        found.append({"role": ROLES[role], "content": _content(each.get("content"), number)})
    return found


def _content(content: Any, number: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _params.bad(f"Message {number}: 'content' is {kind(content)}", "It is a text")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            shown = part.get("type") if isinstance(part, dict) else kind(part)
            raise _params.bad(f"Message {number} has a part '{short(str(shown))}'", "This server's models read texts")
    return "".join(part["text"] for part in content)


def _prompts(given: Mapping[str, Any]) -> list[str]:
    value = given.get("prompt")
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str) for each in values):
        raise _params.bad(
            "'prompt' is not a text", "It is a text, or a list of texts", "Token numbers are another tokenizer's."
        )
    return values


def _options(service: Service, given: Mapping[str, Any]) -> dict[str, Any]:
    most = service.limits.caps.written_tokens
    options: dict[str, Any] = {"temperature": _params.number(given, "temperature", 0, 2)}
    for name in ("max_tokens", "max_completion_tokens"):
        if name in given:
            options["max_tokens"] = _params.number(given, name, 1, most, whole=True)
    top = _params.number(given, "top_p", 0, 1)
    options["top_p"] = None if top is None else max(float(top), 1e-6)
    seed = _params.number(given, "seed", -(1 << 63), (1 << 63) - 1, whole=True)
    options["seed"] = None if seed is None else seed % (1 << 32)
    stop = given.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops) or len(stops) > MOST_STOPS:
        raise _params.bad("'stop' cannot be read", f"It is a text, or a list of at most {MOST_STOPS} texts")
    options["stop"] = [each for each in stops if each] or None
    return {name: value for name, value in options.items() if value is not None}


def _usage_wanted(given: Mapping[str, Any]) -> bool:
    options = given.get("stream_options", {})
    if not isinstance(options, dict):
        raise _params.bad(f"'stream_options' is {kind(options)}", "It is an object")
    return _params.flag(options, "include_usage")


async def _written(
    service: Service,
    request: Request,
    served: Piped,
    prompts: Sequence[Any],
    given: Mapping[str, Any],
    form: _Form,
) -> Response:
    options, streamed, usage = _options(service, given), _params.flag(given, "stream"), _usage_wanted(given)
    if streamed and len(prompts) > 1:
        raise _params.bad(f"{len(prompts)} prompts are to be streamed", "One text is streamed at a time")
    read = await service.in_pool(_token_count, served, prompts, options)
    head = {
        "id": f"{form.prefix}-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": served.name,
        "system_fingerprint": f"{served.name}-{served.version}",
    }
    if streamed:
        pieces = service.stream(request, served, prompts[0], options)
        assert isinstance(pieces, AsyncGenerator)
        # Errors before the first piece still have a status of their own.
        first = await anext(pieces, None)
        events = _events(pieces, first, head, form, read if usage else None)
        return StreamingResponse(events, media_type="text/event-stream", headers=SECONDS)
    rows = [{served.fields.main: prompt} for prompt in prompts]
    records = await service.answer(request, served, rows, options)
    choices = [
        {**form.choice(each["text"], FINISHED.get(each["ended"], "stop"), whole=True), "index": index}
        for index, each in enumerate(records)
    ]
    told = _usage(read, sum(each["tokens"] for each in records))
    return json_response({**head, "object": form.whole, "choices": choices, "usage": told})


def _token_count(served: Piped, prompts: Sequence[Any], options: Mapping[str, Any]) -> int:
    pipeline = served.whole.pipeline
    assert isinstance(pipeline, Generate)
    settled = pipeline.settle({**served.whole.usual, **options})
    try:
        return sum(pipeline.prompt_tokens(served.whole.network, each, settled) for each in prompts)
    except UsageError as error:
        hint = "It continues texts: POST /v1/completions"
        raise RequestError(error.problem, status=400, allowed=error.allowed, hint=hint) from None


async def _events(
    pieces: AsyncGenerator[str, None], first: str | None, head: Mapping[str, Any], form: _Form, read: int | None
) -> AsyncIterator[bytes]:
    told = {**head, "object": form.piece}
    # Where usage is asked for, every other event says that it has none, as OpenAI's do.
    none = {} if read is None else {"usage": None}

    def event(choices: list[dict[str, Any]]) -> bytes:
        return _line({**told, "choices": choices, **none})

    ended = Ended(0, "end")
    try:
        if form.chat:
            yield event([{**form.choice("", None, whole=False, first=True)}])
        piece = first
        while piece is not None:
            if isinstance(piece, Ended):
                ended = piece
            elif piece:
                yield event([form.choice(piece, None, whole=False)])
            piece = await anext(pieces, None)
        yield event([form.choice("", FINISHED.get(ended.how, "stop"), whole=False)])
        if read is not None:
            yield _line({**told, "choices": [], "usage": _usage(read, ended.tokens)})
        yield b"data: [DONE]\n\n"
    except ClientDisconnect:
        return
    except HeadstartError as error:
        # The status has been sent: the error is the last event.
        message = {"message": str(error), "type": "server_error", "param": None, "code": None}
        yield _line({"error": message})
    finally:
        await pieces.aclose()


def _usage(read: int, written: int) -> dict[str, int]:
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _line(value: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
