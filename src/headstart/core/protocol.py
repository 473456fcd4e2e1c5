"""The Protocol contract: one wire protocol of the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Protocol(ABC):
    """One wire protocol (one file in `server/protocols/`)."""

    @abstractmethod
    def routes(self, service: Any) -> Any:
        """Return a `fastapi.APIRouter` whose routes answer from `service` (`headstart.server.app.Service`)."""
