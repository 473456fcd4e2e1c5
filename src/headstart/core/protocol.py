"""The Protocol contract: one wire protocol of the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Protocol(ABC):
    """One wire protocol (one file in `server/protocols/`)."""

    busy_status: int = 503
    """The status of a request that is refused because the queue is full."""

    @abstractmethod
    def routes(self, service: Any) -> Any:
        """Return a `fastapi.APIRouter` whose routes answer from `service` (`headstart.server.service.Service`)."""

    def owns(self, path: str) -> bool:
        """Return whether errors of a path are to be told in this protocol's own form, whether a route has it or not."""
        return False

    def error(self, status: int, message: str, hint: str) -> Any:
        """Return the JSON body of an error, or None where the server's own form will do."""
        return None
