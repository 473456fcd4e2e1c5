"""Rollout: change what a running server serves, by its admin API."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from headstart.core.errors import HeadstartError, ResourceError, UsageError
from headstart.stages.pretrained import is_reference

ADMIN = "http://127.0.0.1:8001"
"""Where the admin API is, unless told otherwise."""
PATIENCE = 600.0
"""Seconds that loading may take."""
KEY = "HEADSTART_API_KEY"
"""The environment variable with the key that a protected admin API asks for (scope `admin`)."""


def status(*, admin: str = ADMIN) -> list[dict[str, Any]]:
    """Return the models that a server serves, with their versions and parts.

    Raises:
        ResourceError: there is no admin API.
    """
    return list(_asked(admin, "/models")["models"])


def load(name: str, path: Path | str, *, weight: float | None = None, shadow: bool = False, admin: str = ADMIN) -> Any:
    """Load another version of a model; it takes over at once, or is a canary or a shadow.

    Args:
        name: the model, which may be new.
        path: a bundle's folder on the server's machine, or a reference.
        weight: of a canary, its share of the requests.
        shadow: whether its answers are only compared.
        admin: the admin API's address.

    Raises:
        ResourceError: there is no admin API.
        HeadstartError: the server cannot load it, and serves what it did before.
    """
    given: dict[str, Any] = {"path": str(path) if is_reference(str(path)) else str(Path(path).resolve())}
    if weight is not None:
        given["weight"] = weight
    if shadow:
        given["shadow"] = True
    return _asked(admin, _path(name, "load"), given)


def promote(name: str, *, admin: str = ADMIN) -> Any:
    """Let a model's canary, or else its shadow, answer all requests.

    Raises:
        ResourceError: there is no admin API.
        HeadstartError: there is neither.
    """
    return _asked(admin, _path(name, "promote"), {})


def rollback(name: str, *, admin: str = ADMIN) -> Any:
    """Take a model's canary and shadow away, or else let the version before answer again.

    Raises:
        ResourceError: there is no admin API.
        HeadstartError: there is nothing to go back to.
    """
    return _asked(admin, _path(name, "rollback"), {})


def unload(name: str, version: str = "", *, admin: str = ADMIN) -> Any:
    """Take a model away, or one of its versions.

    Raises:
        ResourceError: there is no admin API.
        HeadstartError: there is no such model, or the version is live.
    """
    return _asked(admin, _path(name, "unload"), {"version": version} if version else {})


def _path(name: str, verb: str) -> str:
    return f"/models/{urllib.parse.quote(name, safe='')}/{verb}"


def _key() -> dict[str, str]:
    """Return the header that shows the API key, where the environment has one."""
    key = os.environ.get(KEY, "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _asked(admin: str, path: str, given: dict[str, Any] | None = None) -> Any:
    address = urllib.parse.urlsplit(admin)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise UsageError(f"'{admin}' is no address of an admin API.", allowed=f"Such as {ADMIN}.")
    body = None if given is None else json.dumps(given).encode()
    request = urllib.request.Request(admin.rstrip("/") + path, body, {"Content-Type": "application/json", **_key()})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise _told(error.read(), error.code) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ResourceError(
            f"There is no admin API at {admin}: {reason}.",
            hint="Start the server with --admin-port 8001, and give --admin http://127.0.0.1:8001",
        ) from error


def _told(body: bytes, status: int) -> HeadstartError:
    try:
        told = json.loads(body)["error"]
        return UsageError(told["message"], hint=told["hint"])
    except (ValueError, KeyError, TypeError):
        return ResourceError(f"The admin API answered with status {status}.")
