"""The app: an opened model behind HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, final

from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.core import VERSION
from headstart.core.dataset import is_blank
from headstart.core.errors import HeadstartError, RequestError
from headstart.core.protocol import Protocol
from headstart.runtime import Runtime
from headstart.server import openapi
from headstart.server.batching import Answer, Batcher, Busy, Row
from headstart.server.errors import CLIENT_GONE, answer_errors, internal_error, refusal
from headstart.server.metrics import UNKNOWN, Metrics
from headstart.server.protocols import registry
from headstart.server.rows import Fields


@dataclass(frozen=True)
class Limits:
    """How much the server takes on.

    Args:
        body_bytes: longest request body.
        body_seconds: time in which a body must have arrived.
        rows: most rows in one request.
        batch_rows: most rows that go to the model together.
        batch_characters: most characters that go to the model together.
        queue_batches: how many batches' worth of requests may wait; more are refused.
    """

    body_bytes: int = 10_000_000
    body_seconds: float = 30.0
    rows: int = 10_000
    batch_rows: int = 256
    batch_characters: int = 200_000
    queue_batches: int = 8


@final
class Service:
    """What protocols answer from: an opened model, the queue in front of it, and the measures.

    Making one answers an example, so that the first caller does not wait for what is set up at first use.

    Args:
        runtime: the opened model.
        name: what it is called.
        limits: how much to take on.

    Raises:
        HeadstartError: the model cannot answer its own example.
    """

    def __init__(self, runtime: Runtime, name: str, limits: Limits) -> None:
        self.runtime, self.name, self.limits = runtime, name, limits
        self.fields = Fields.of(runtime)
        self.metrics = Metrics()
        self.batcher = Batcher(
            runtime.predict_rows,
            self.metrics,
            rows=limits.batch_rows,
            characters=limits.batch_characters,
            batches=limits.queue_batches,
        )
        self.draining = False
        self.example = _example(runtime)
        self.example_answer = runtime.predict_rows([self.example])[0]

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self.batcher.running and not self.draining

    async def body(self, request: Request) -> bytes:
        """Read a request's body, and never more of it than the limit.

        Raises:
            RequestError: it is too long (status 413), too slow (408) or compressed (415).
        """
        coding = request.headers.get("content-encoding", "identity")
        if coding.casefold() != "identity":
            raise RequestError(f"The body is compressed ('{coding[:20]}').", status=415, allowed="Send it as it is.")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and float(declared) > self.limits.body_bytes:
            raise self._too_long()
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.limits.body_bytes:
                        raise self._too_long()
        except TimeoutError:
            problem = f"The body did not arrive within {self.limits.body_seconds:g} s."
            raise self.refused("body_too_slow", RequestError(problem, status=408)) from None
        return bytes(body)

    def check_count(self, rows: int) -> None:
        """Raise RequestError (status 413) if a request has too many rows; asked before they are looked at."""
        if rows > self.limits.rows:
            allowed = f"Allowed: {self.limits.rows:,}."
            error = RequestError(
                f"The request has {rows:,} rows.", status=413, allowed=allowed, hint="Send them in several requests."
            )
            raise self.refused("too_many_rows", error)

    async def answer(self, request: Request, rows: Sequence[Row]) -> list[Answer]:
        """Return one answer for each row; rows of a client that leaves meanwhile never reach the model.

        Args:
            request: where the rows came from; its body has been read.
            rows: made by `fields`.

        Raises:
            Busy: the queue is full.
            ClientDisconnect: the client has left.
        """
        try:
            answers = self.batcher.submit(rows)
        except Busy as error:
            raise self.refused("queue_full" if self.batcher.running else "not_running", error) from None
        left = asyncio.ensure_future(_departure(request.receive))
        try:
            await asyncio.wait((answers, left), return_when=asyncio.FIRST_COMPLETED)
            if not answers.done():
                raise ClientDisconnect
            self.metrics.rows.inc(len(rows))
            return answers.result()
        finally:
            left.cancel()
            answers.cancel()

    def refused(self, reason: str, error: HeadstartError) -> HeadstartError:
        """Count a refusal and hand its error back, to be raised."""
        self.metrics.rejected.labels(reason).inc()
        return error

    def _too_long(self) -> HeadstartError:
        limit = self.limits.body_bytes / 1e6
        problem = f"The request's body is longer than {limit:g} MB."
        return self.refused(
            "body_too_long", RequestError(problem, status=413, hint="Send its rows in several requests.")
        )


def create_app(
    runtime: Runtime,
    *,
    name: str,
    limits: Limits = Limits(),
    protocols: Iterable[Protocol] | None = None,
) -> FastAPI:
    """Return the app that serves an opened model; its `state.service` is the Service.

    Args:
        runtime: the opened model.
        name: what it is called.
        limits: how much to take on.
        protocols: the wire protocols to speak; None means every file of `server/protocols/`.

    Raises:
        HeadstartError: the model cannot answer its own example.
        MissingExtra: a protocol needs a package that is not installed.
    """
    service = Service(runtime, name, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await service.batcher.stop()

    app = FastAPI(
        title=name,
        version=VERSION,
        description=openapi.overview(list(runtime.targets), runtime.columns),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for protocol in protocols if protocols is not None else [each() for each in registry.all().values()]:
        app.include_router(protocol.routes(service))
    openapi.describe(app, service)
    answer_errors(app)
    app.add_middleware(_Watched, service=service)
    return app


@final
class _Watched:
    """Counts and times every request, and turns what nobody caught into a logged 500."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service, self.metrics = app, service, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.inflight.inc()
        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            # So the server cuts off what takes longer than it may after the signal to stop.
            if status or not self.service.draining:
                raise
            await refusal(Busy("The server stopped before the answer was there."))(scope, receive, watched)
        except Exception as error:
            if status:
                raise
            await internal_error(error)(scope, receive, watched)
        finally:
            self.metrics.inflight.dec()
            # Only FastAPI's routes are named in the scope; /openapi.json is not one of them.
            route = str(getattr(scope.get("route"), "path", UNKNOWN if status == 404 else scope["path"]))
            self.metrics.answered(route, status or CLIENT_GONE, time.perf_counter() - started)


async def _departure(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _example(runtime: Runtime) -> Row:
    """Return a row made of the columns' own examples."""
    examples = {name: (schema.get("examples") or [None])[0] for name, schema in runtime.input_schema().items()}
    row: dict[str, Any] = {name: cell for name, cell in examples.items() if not is_blank(cell)}
    return row or {runtime.main_column: "example"}
