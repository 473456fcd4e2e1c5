"""Whether the network may be used."""

from __future__ import annotations

import os

from headstart.core.errors import HubError

VARIABLES = ("HEADSTART_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def offline() -> bool:
    """Return whether one of `VARIABLES` forbids the network."""
    return any(os.environ.get(name, "").casefold() in ("1", "true", "yes", "on") for name in VARIABLES)


def go_offline() -> None:
    """Forbid the network to this process, to its children, and to the hubs' own libraries."""
    for name in VARIABLES:
        os.environ[name] = "1"


def need_network(what: str) -> None:
    """Raise HubError where the network is forbidden.

    Raises:
        HubError: it is; the sentence says what would have been fetched.
    """
    if offline():
        raise HubError(
            f"{what} is not on this machine, and the network is switched off.",
            allowed="Offline, only what has been fetched before can be used.",
            hint="Run it once without --offline, or fetch it on another machine and copy the cache folder.",
        )
