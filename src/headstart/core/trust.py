"""Whether code that a model brings with it may be run."""

from __future__ import annotations

import os
from collections.abc import Iterable

from headstart.core.errors import HubError, listed

VARIABLE = "HEADSTART_TRUST_REMOTE_CODE"


def trust_remote_code() -> None:
    """Let models of this process run the code that they bring."""
    os.environ[VARIABLE] = "1"


def trusted() -> bool:
    """Return whether the user has said so."""
    return os.environ.get(VARIABLE) == "1"


def need_trust(reference: str, files: Iterable[str]) -> None:
    """Raise HubError unless the user has said that this model's code may be run.

    Raises:
        HubError: the user has not; the sentence lists the files that would be run.
    """
    if not trusted():
        raise HubError(
            f"'{reference}' can only be opened by running code that it brings: {listed(files, 20)}.",
            allowed="Such code can do whatever you can do on this machine.",
            hint="Read those files first. If you trust them, add --trust-remote-code.",
        )
