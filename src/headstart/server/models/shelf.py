"""The shelf: the models that are served, by name, and the versions of each."""

from __future__ import annotations

import hashlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import final

from headstart.core.errors import RequestError, UsageError, listed, nearest
from headstart.server.models.served import Served

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered."""
PARTS = 10_000
"""A canary's weight is counted in parts of so many."""


@final
@dataclass
class Entry:
    """One name: its versions, and which of them answers.

    Args:
        versions: by number, in order of loading.
        live: the one that answers.
        previous: the one that answered before it; empty where there was none, or it has been unloaded.
        canary: one that answers a share of the requests; empty where there is none.
        weight: that share, 0 to 1.
        shadow: one that is asked what the live one is asked, and whose answers are only compared.
    """

    versions: dict[str, Served] = field(default_factory=dict)
    live: str = ""
    previous: str = ""
    canary: str = ""
    weight: float = 0.0
    shadow: str = ""

    def role(self, version: str) -> str:
        """Return what a version is there for: `live`, `canary`, `shadow`, `previous` or `loaded`."""
        roles = {self.live: "live", self.canary: "canary", self.shadow: "shadow", self.previous: "previous"}
        return roles.get(version, "loaded")

    @property
    def chosen(self) -> Served:
        """The version that answers this request: the canary for its share of request ids, else the live one."""
        if self.canary and share_of(request_id.get()) < self.weight:
            return self.versions[self.canary]
        return self.versions[self.live]


def share_of(text: str) -> float:
    """Return where a request id falls between 0 and 1, always at the same place.

    >>> share_of("a") == share_of("a"), 0 <= share_of("b") < 1
    (True, True)
    """
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest()
    return int.from_bytes(digest) % PARTS / PARTS


@final
class Shelf:
    """The models that are served; read and changed in the event loop only."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._loaded: dict[str, int] = {}

    def find(self, name: str = "", version: str = "") -> Served:
        """Return the version that is to answer.

        Args:
            name: the model; the only one, or the one that was named first, where empty.
            version: of it; the live one where empty, or its canary by weight, which the request's id decides.

        Raises:
            RequestError: there is none (status 404); or there are several models and none is named.
        """
        entry = self.entries[name] if name in self.entries else self._entry(name)
        if not version:
            return entry.chosen
        if version not in entry.versions:
            raise RequestError(
                f"The model '{name[:60] or next(iter(self.entries))}' has no version '{version[:60]}'.",
                status=404,
                allowed=f"Versions: {listed(entry.versions)}.",
                hint="Leave the version out for the live one.",
            )
        return entry.versions[version]

    def entry(self, name: str) -> Entry:
        """Return all that is known of a name.

        Raises:
            RequestError: there is no such model (status 404).
        """
        return self.entries[name] if name in self.entries else self._entry(name)

    def names(self) -> list[str]:
        """Return the models' names, in order of loading."""
        return list(self.entries)

    def all(self) -> list[Served]:
        """Return the live version of each model."""
        return [entry.versions[entry.live] for entry in self.entries.values()]

    def versions(self, name: str) -> dict[str, Served]:
        """Return the versions of a model.

        Raises:
            RequestError: there is no such model (status 404).
        """
        return dict(self.entry(name).versions)

    def next_version(self, name: str) -> str:
        """Return the number that the next version of a name gets; none is given twice, not even after unloading."""
        return str(self._loaded.get(name, 0) + 1)

    def _entry(self, name: str) -> Entry:
        if not name and len(self.entries) == 1:
            return next(iter(self.entries.values()))
        if not self.entries:
            raise RequestError("No model is served.", status=404, hint="Load one: headstart rollout load NAME PATH")
        if not name:
            raise RequestError(
                f"{len(self.entries)} models are served, and none is named.",
                status=404,
                allowed=f"Models: {listed(self.entries)}.",
                hint=f"Send it to /models/{next(iter(self.entries))}/predict",
            )
        raise RequestError(
            f"There is no model '{name[:60]}'.",
            status=404,
            allowed=f"Models: {listed(self.entries)}.",
            hint=nearest(name[:60], self.entries),
        )

    def add(self, served: Served, role: str = "live", weight: float = 0.0) -> list[Served]:
        """Put a version on the shelf, and return those that have no more part to play.

        Args:
            role: `live` (it answers from now on), `canary` or `shadow`.
            weight: the canary's share of the requests.

        Raises:
            UsageError: a name's first version is no live one.
        """
        entry = self.entries.get(served.name)
        if entry is None and role != "live":
            raise UsageError(
                f"'{served.name}' is not served yet, so there is nothing that a {role} could stand beside.",
                hint=f"Load it without --{role} first.",
            )
        if entry is None:
            entry = self.entries[served.name] = Entry()
        entry.versions[served.version] = served
        self._loaded[served.name] = max(self._loaded.get(served.name, 0), int(served.version))
        if role == "canary":
            entry.canary, entry.weight = served.version, weight
        elif role == "shadow":
            entry.shadow = served.version
        else:
            self._go_live(entry, served.version)
        return self._spare(entry)

    def promote(self, name: str) -> list[Served]:
        """Let the canary, or else the shadow, answer all requests, and return the versions that have no more part.

        Raises:
            UsageError: there is neither.
        """
        entry = self.entry(name)
        version = entry.canary or entry.shadow
        if not version:
            raise UsageError(
                f"'{name}' has neither a canary nor a shadow that could be promoted.",
                hint=f"Load one: headstart rollout canary {name} PATH --weight 0.1",
            )
        self._go_live(entry, version)
        return self._spare(entry)

    def rollback(self, name: str) -> list[Served]:
        """Take the canary or shadow away, else let the version before this one answer again.

        Raises:
            UsageError: there is none of them.
        """
        entry = self.entry(name)
        if entry.canary or entry.shadow:
            entry.canary, entry.weight, entry.shadow = "", 0.0, ""
        elif entry.previous:
            entry.live, entry.previous = entry.previous, ""
        else:
            raise UsageError(f"'{name}' has no version to go back to: '{entry.live}' is the only one.")
        return self._spare(entry)

    def unload(self, name: str, version: str = "") -> list[Served]:
        """Take a model, or one version that is not live, off the shelf.

        Raises:
            RequestError: there is none (status 404).
            UsageError: the version is live.
        """
        entry = self.entry(name)
        if not version:
            del self.entries[name]
            return list(entry.versions.values())
        self.find(name, version)
        if version == entry.live:
            raise UsageError(
                f"Version '{version}' of '{name}' is the live one.",
                hint=f"headstart rollout rollback {name}, or unload the whole model.",
            )
        for role in ("previous", "canary", "shadow"):
            if getattr(entry, role) == version:
                setattr(entry, role, "")
        return [entry.versions.pop(version)]

    def _go_live(self, entry: Entry, version: str) -> None:
        if entry.live and entry.live != version:
            entry.previous = entry.live
        entry.live = version
        if entry.canary == version:
            entry.canary, entry.weight = "", 0.0
        if entry.shadow == version:
            entry.shadow = ""

    def _spare(self, entry: Entry) -> list[Served]:
        """Take the versions out that are neither live, canary, shadow nor the one to roll back to."""
        kept = {entry.live, entry.previous, entry.canary, entry.shadow}
        spare = [version for version in entry.versions if version not in kept]
        return [entry.versions.pop(version) for version in spare]
