"""The app: opened models behind HTTP."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, final

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.core import VERSION
from headstart.core.errors import MissingExtra
from headstart.core.protocol import Protocol
from headstart.server import openapi
from headstart.server.direct import App
from headstart.server.errors import CLIENT_GONE, Errors
from headstart.server.limits import Limits
from headstart.server.models.rollout import Opener, Rollout
from headstart.server.models.shelf import request_id
from headstart.server.protocols import registry
from headstart.server.queue.batching import Busy
from headstart.server.record.journal import Journal as Written
from headstart.server.record.metrics import UNKNOWN
from headstart.server.service import Journal, Service

SANE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""What a request id may be, so that it can be put into headers and logs as it is."""
_IDS = random.Random()
"""Ids are no secrets, and asking the system for randomness took longer than all else that a request needs."""


def create_app(
    models: Any,
    *,
    name: str = "model",
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    protocols: Iterable[Protocol] | None = None,
    opener: Opener | None = None,
    journal: Journal | None = None,
    guard: Iterable[Middleware] = (),
    background: Iterable[Callable[[Rollout], Any]] = (),
) -> FastAPI:
    """Return the app that serves opened models; its `state.service` is the Service, its `state.rollout` the Rollout.

    Args:
        models: opened models by name; or one alone: a Runtime, or a `server.piped.Whole`.
        name: what one alone is called.
        limits: how much to take on.
        protocols: the wire protocols to speak; None means all whose packages are installed.
        opener: opens what is named when a model is loaded while the server runs; without one, none is.
        journal: what is told of every answer; see `Service`.
        guard: ASGI middleware that every request passes before the routes.
        background: coroutine functions of the Rollout that run as long as the server does, such as a folder's watch.

    Raises:
        HeadstartError: a model cannot answer its own example.
    """
    service = Service(limits)
    service.journal = journal
    if isinstance(journal, Written):
        service.metrics.registry.register(journal.metrics())
    rollout = Rollout(service, opener)
    for called, opened in (models if isinstance(models, Mapping) else {name: models}).items():
        rollout.put(called, opened)
    spoken = list(protocols) if protocols is not None else _spoken()
    errors = Errors(spoken)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        running = [asyncio.ensure_future(each(rollout)) for each in background]
        yield
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await service.stop()

    names = service.shelf.names()
    app = App(
        title=names[0] if len(names) == 1 else "headstart",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service, app.state.rollout = service, rollout
    routers = [protocol.routes(service) for protocol in spoken]
    for router in routers:
        app.include_router(router)
    app.errors, app.plain = errors, [route for router in routers for route in router.routes]
    openapi.describe(app, service)
    errors.answer(app)
    for each in reversed(list(guard)):
        app.add_middleware(each.cls, *each.args, **each.kwargs)
    app.add_middleware(Watched, service=service, errors=errors)
    return app


def _spoken() -> list[Protocol]:
    """Return all protocols but those whose packages are not installed."""
    found = []
    # Routes are tried in order: headstart's own come first.
    for name in sorted(registry.names(), key=lambda name: name != "native"):
        with suppress(MissingExtra):
            found.append(registry.get(name)())
    return found


@final
class Watched:
    """Names, counts and times every request, and turns what nobody caught into a logged 500."""

    def __init__(self, app: ASGIApp, service: Service, errors: Errors) -> None:
        self.app, self.service, self.metrics, self.errors = app, service, service.metrics, errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        given = _request_id(scope)
        request_id.set(given.decode())

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", given)]
                if self.service.draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        self.metrics.inflight += 1
        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            # So the server cuts off what takes longer than it may after the signal to stop.
            if status or not self.service.draining:
                raise
            stopped = Busy("The server stopped before the answer was there.")
            await self.errors.refusal(scope["path"], stopped)(scope, receive, watched)
        except Exception as error:
            if status:
                raise
            await self.errors.internal(scope["path"], error)(scope, receive, watched)
        finally:
            self.metrics.inflight -= 1
            # Only FastAPI's routes are named in the scope; /openapi.json is not one of them.
            route = str(getattr(scope.get("route"), "path", UNKNOWN if status == 404 else scope["path"]))
            self.metrics.answered(route, status or CLIENT_GONE, time.perf_counter() - started)


def _request_id(scope: Scope) -> bytes:
    """Return the client's own id where it is sane, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE.fullmatch(value):
            return bytes(value)
    return b"%016x" % _IDS.getrandbits(64)
