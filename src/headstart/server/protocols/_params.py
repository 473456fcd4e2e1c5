"""Fields of a request in OpenAI's form, read one by one: what is not supported is refused, not passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.core.errors import RequestError, listed
from headstart.server.requests.rows import check_known, kind, read_json, short

HARMLESS = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "parallel_tool_calls",
)
"""Fields that may be there, and change nothing."""


def read_object(body: bytes, known: Sequence[str]) -> dict[str, Any]:
    """Return a body's fields, those that are null left out.

    Raises:
        RequestError: it is not a JSON object, or has a field that is not known (status 400).
    """
    document = read_json(body)
    if not isinstance(document, dict):
        raise bad(f"The body is {kind(document)}", "It is a JSON object")
    given = {name: value for name, value in document.items() if value is not None and name not in HARMLESS}
    check_known(given, known)
    return given


def refuse(given: Mapping[str, Any], neutral: Mapping[str, Sequence[Any]]) -> None:
    """Raise RequestError for a field that is not supported, unless its value asks for nothing.

    Args:
        given: the request's fields.
        neutral: the fields that are not supported, with the values that ask for nothing.
    """
    for name, values in neutral.items():
        if name in given and not any(given[name] == value and type(given[name]) is type(value) for value in values):
            allowed = f"Only {' or '.join(_json(value) for value in values)}." if values else ""
            raise RequestError(
                f"'{name}' is not supported by this server.", status=400, allowed=allowed, hint=f"Leave '{name}' out."
            )


def number(given: Mapping[str, Any], name: str, low: float, high: float, *, whole: bool = False) -> Any:
    """Return a number within bounds, or None where it is not given.

    Raises:
        RequestError: it is something else (status 400).
    """
    value = given.get(name)
    if value is None:
        return None
    fine = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not fine:
        shown = _json(value) if isinstance(value, (int, float)) else kind(value)
        raise bad(f"'{name}' is {shown}", f"{'A whole number' if whole else 'A number'} from {low:g} to {high:g}")
    return value


def flag(given: Mapping[str, Any], name: str) -> bool:
    """Return whether something is asked for.

    Raises:
        RequestError: it is neither true nor false (status 400).
    """
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise bad(f"'{name}' is {kind(value)}", "It is true or false")
    return value


def text(given: Mapping[str, Any], name: str, allowed: Sequence[str] = ()) -> str:
    """Return a text, empty where it is not given.

    Raises:
        RequestError: it is none, or none of those allowed (status 400).
    """
    value = given.get(name, "")
    if not isinstance(value, str):
        raise bad(f"'{name}' is {kind(value)}", "It is a text")
    if allowed and value and value not in allowed:
        raise bad(f"'{name}' is '{short(value)}'", f"Allowed: {listed(allowed)}")
    return value


def bad(problem: str, allowed: str, hint: str = "") -> RequestError:
    """Return the error of a request that cannot be used (status 400)."""
    return RequestError(f"{problem}.", status=400, allowed=f"{allowed}.", hint=hint)


def _json(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else short(str(value))
