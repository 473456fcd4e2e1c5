"""The tree of errors. Each says what is wrong, what is allowed, and what to type next.

HeadstartError            exit 1   HTTP 500
├── UsageError            exit 2   HTTP 400   an option or argument that cannot be used
├── DataError             exit 3   HTTP 422   a table, column or cell that cannot be used
│   └── RequestError      exit 3   HTTP 422   the same, sent over HTTP (`status` is set per case)
├── BundleError           exit 4   HTTP 500   a fitted model that is missing, damaged or too new
├── HubError              exit 5   HTTP 502   a pretrained model that cannot be had
├── MissingExtra          exit 6   HTTP 500   an optional package is not installed
└── ResourceError         exit 7   HTTP 503   disk full, port in use, out of budget
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeadstartError(Exception):
    """Root of every error that headstart raises on purpose.

    Args:
        problem: one sentence with the offending value.
        allowed: what would have been accepted.
        hint: what to type or do next.
    """

    exit_code = 1
    status = 500

    def __init__(self, problem: str, *, allowed: str = "", hint: str = "") -> None:
        self.problem, self.allowed, self.hint = problem, allowed, hint
        super().__init__(" ".join(part for part in (problem, allowed, hint) if part))


class UsageError(HeadstartError):
    """An option or argument that cannot be used."""

    exit_code = 2
    status = 400


class DataError(HeadstartError):
    """A table, column or cell that cannot be used."""

    exit_code = 3
    status = 422


class RequestError(DataError):
    """A request body that cannot be used; `status` says which kind of refusal it is."""

    def __init__(self, problem: str, *, status: int = 422, allowed: str = "", hint: str = "") -> None:
        super().__init__(problem, allowed=allowed, hint=hint)
        self.status = status


class BundleError(HeadstartError):
    """A bundle that is missing, damaged or written by a newer headstart."""

    exit_code = 4


class HubError(HeadstartError):
    """A pretrained model that cannot be found, fetched or verified."""

    exit_code = 5
    status = 502


class MissingExtra(HeadstartError):
    """An optional package is not installed."""

    exit_code = 6


class ResourceError(HeadstartError):
    """The machine cannot do it now: disk full, port in use, no budget left."""

    exit_code = 7
    status = 503


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return a `Did you mean …?` sentence for a mistyped name, or an empty string."""
    names = {str(each).casefold(): str(each) for each in allowed}
    match = difflib.get_close_matches(name.casefold(), list(names), n=1, cutoff=0.5)
    return f"Did you mean '{names[match[0]]}'?" if match else ""


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Return names as `'a', 'b', 'c' and 3 more`."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
