"""OpenAI's API: vectors of texts, texts and conversations that are written on, recordings written down."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from fastapi import APIRouter, Request, Response

from headstart.core.errors import RequestError, listed
from headstart.core.protocol import Protocol
from headstart.server.errors import json_response
from headstart.server.models.served import Encoder, Served
from headstart.server.protocols import _chat, _models, _params, _schemas, _transcripts
from headstart.server.requests.rows import kind
from headstart.server.service import Service

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
STATUSES = (*_schemas.ASKED, 429)


@final
class OpenAI(Protocol):
    """`/v1/embeddings`, `/v1/chat/completions`, `/v1/completions`, `/v1/audio/transcriptions` and `/v1/models`."""

    busy_status = 429

    def routes(self, service: Service) -> APIRouter:
        """Return the routes."""
        router = APIRouter(tags=["openai"])
        _models.add_routes(router, service, shown=True)
        _embedding_route(router, service)
        _writing_routes(router, service)
        _recording_route(router, service)
        return router

    def owns(self, path: str) -> bool:
        """Return whether a path is below `/v1` and not one of TensorFlow Serving's."""
        return path.startswith("/v1/") and not _models.is_tensorflow(path)

    def error(self, status: int, message: str, hint: str) -> Any:
        """Return an error as its clients read it."""
        usual = "server_error" if status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": f"{message} {hint}".strip(),
                "type": TYPES.get(status, usual),
                "param": None,
                "code": CODES.get(status),
            }
        }


def _embedding_route(router: APIRouter, service: Service) -> None:
    texts = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    schema = {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "input": texts,
            "encoding_format": {"enum": ["float", "base64"]},
            "dimensions": {"type": "integer", "minimum": 1},
        },
        "required": ["input"],
    }

    @router.post(
        "/v1/embeddings",
        operation_id="v1_embeddings",
        summary="Vectors of texts",
        openapi_extra=_schemas.body(schema),
        responses=_schemas.errors(_schemas.OPENAI, *STATUSES),
    )
    async def embeddings(request: Request) -> Response:
        """Send one text or several; `encoding_format` is `float` or `base64` (float32, little-endian)."""
        given = _params.read_object(await service.body(request), ("model", "input", "encoding_format", "dimensions"))
        served = service.shelf.find(_params.text(given, "model"))
        encoder = _encoder(served, service)
        wanted = _texts(given)
        service.check_count(len(wanted))
        form = _params.text(given, "encoding_format", ("float", "base64")) or "float"
        size = _params.number(given, "dimensions", 1, 1 << 20, whole=True)
        vectors, tokens = await asyncio.gather(
            service.vectors(request, served, wanted), service.in_pool(_token_count, encoder, wanted)
        )
        return json_response(_embedded(served.name, _shortened(vectors, size), form == "base64", tokens))


def _encoder(served: Served, service: Service) -> Encoder:
    if served.encoder is None:
        can = [each.name for each in service.shelf.all() if each.encoder is not None]
        raise _params.bad(
            f"The model '{served.name}' gives no vectors of texts",
            f"Models that do: {listed(can)}" if can else "Models that read texts with a network do",
            "" if can else "Serve one: headstart serve builtin:all-MiniLM-L6-v2",
        )
    return served.encoder


def _texts(given: dict[str, Any]) -> list[str]:
    value = given.get("input")
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values or value is None:
        raise _params.bad("There is no 'input'", "It is a text, or a list of texts")
    if any(isinstance(each, (int, list)) and not isinstance(each, bool) for each in values):
        raise _params.bad(
            "'input' holds token numbers",
            "They are another tokenizer's, so their vectors would be meaningless; texts are read",
            "Send the texts themselves; with LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)",
        )
    for number, each in enumerate(values, start=1):
        if not isinstance(each, str):
            raise _params.bad(f"Text {number} of 'input' is {kind(each)}", "It is a text, or a list of texts")
        if not each.strip():
            raise _params.bad(f"Text {number} of 'input' is empty", "An empty text has no meaning to embed")
    return values


def _token_count(encoder: Encoder, texts: Sequence[str]) -> int:
    read = encoder.modality
    arrays = read.encode(read.prepare({read.columns[0]: list(texts)}))
    return int(arrays["lengths"].sum()) if "lengths" in arrays else 0


def _shortened(vectors: np.ndarray, size: int | None) -> np.ndarray:
    """Return the first numbers of each vector, of unit length again, as networks trained to be cut short expect."""
    width = vectors.shape[1]
    if size is None or size == width:
        return vectors
    if size > width:
        raise _params.bad(f"'dimensions' is {size}", f"The model's vectors have {width} numbers, and can be cut short")
    cut = vectors[:, :size]
    return cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)


def _embedded(model: str, vectors: np.ndarray, packed: bool, tokens: int) -> dict[str, Any]:
    rows = np.ascontiguousarray(vectors, np.dtype("<f4"))
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.tobytes()).decode() if packed else row,
        }
        for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _writing_routes(router: APIRouter, service: Service) -> None:
    message = {"type": "object", "properties": {"role": {"type": "string"}, "content": {}}, "required": ["role"]}
    chat = {
        "type": "object",
        "properties": {"model": {"type": "string"}, "messages": {"type": "array", "items": message}},
        "required": ["messages"],
    }
    plain = {
        "type": "object",
        "properties": {"model": {"type": "string"}, "prompt": {}},
        "required": ["prompt"],
    }
    for path, schema, answer, summary in (
        ("chat/completions", chat, _chat.chat, "Answer in a conversation"),
        ("completions", plain, _chat.complete, "Continue a text"),
    ):
        router.add_api_route(
            f"/v1/{path}",
            _writing(service, answer),
            methods=["POST"],
            operation_id=f"v1_{path.replace('/', '_')}",
            summary=summary,
            openapi_extra=_schemas.body(schema),
            responses=_schemas.errors(_schemas.OPENAI, *STATUSES),
        )


def _writing(service: Service, answer: Any) -> Any:
    async def write(request: Request) -> Response:
        response: Response = await answer(service, request)
        return response

    return write


def _recording_route(router: APIRouter, service: Service) -> None:
    schema = {
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary"}, "model": {"type": "string"}},
        "required": ["file"],
    }
    form = {"multipart/form-data": {"schema": schema}}

    @router.post(
        "/v1/audio/transcriptions",
        operation_id="v1_transcriptions",
        summary="Write down a recording",
        openapi_extra={"requestBody": {"required": True, "content": form}},
        responses=_schemas.errors(_schemas.OPENAI, *STATUSES),
    )
    async def transcriptions(request: Request) -> Response:
        """Send a form with the recording as `file`; `response_format` is json, text, srt, vtt or verbose_json."""
        return await _transcripts.transcribe(service, request)

    @router.post("/v1/audio/translations", include_in_schema=False)
    async def translations() -> Response:
        raise RequestError(
            "Recordings are not translated here.",
            status=404,
            allowed="They are written down in their own language.",
            hint="POST /v1/audio/transcriptions",
        )
