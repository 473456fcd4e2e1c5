"""Models: what pretrained models there are, fetching them, and what they take on this machine."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from headstart import hubs
from headstart.core.backbone import Backbone, Held
from headstart.core.errors import HubError, MissingExtra, UsageError, listed
from headstart.core.files import cache_folder
from headstart.core.progress import Progress, Quiet
from headstart.stages.networks import SHORT, fetch

LIMIT = 30
PERMISSIVE = "permissive"
_PERMISSIVE = (
    "Apache-2.0 MIT BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear ISC CC0-1.0 CC-BY-4.0 CC-BY-3.0 Unlicense Zlib "
    "BSL-1.0 ECL-2.0 AFL-3.0 Artistic-2.0"
)
FREE = frozenset(each.casefold() for each in _PERMISSIVE.split())
"""Licences that allow commercial use and change, and ask for no more than attribution."""
THOUSANDS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9}


def models(
    query: str = "",
    hub: str = "",
    *,
    modality: str = "",
    max_params: int | str = 0,
    license: str = "",
    limit: int = LIMIT,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Return the pretrained models whose name contains `query`, on one hub or all, those on this machine first.

    Args:
        query: part of a name.
        hub: only this hub, such as `timm`.
        modality: only what reads `text`, `image` or `audio`.
        max_params: only models of at most so many weights, such as `30M`; those that do not say are left out.
        license: `permissive`, or SPDX names separated by commas; those that do not say are left out.
        limit: at most so many; every hub gets its share.
        progress: what hears of hubs that cannot be searched; a Python warning says so where it is None.

    Raises:
        UsageError: there is no such hub, or `max_params` is no number.
        HubError: the one hub that is asked for cannot be searched.
    """
    most, names = number(max_params), _licences(license)

    def fits(each: Backbone) -> bool:
        return (
            modality in ("", each.modality)
            and (not most or 0 < each.parameters <= most)
            and (not names or each.licence.casefold() in names)
        )

    if hub:
        found = [_search(SHORT.get(hub, hub), query, modality, 0 if most or names else limit)]
    else:
        found = _everywhere(query, modality, 0 if most or names else limit, progress)
    shares = [sorted(filter(fits, each), key=lambda one: not one.cached) for each in found]
    taken = [each for each in chain.from_iterable(zip_longest(*shares)) if each is not None][: limit or None]
    return [_record(each) for each in sorted(taken, key=lambda each: (not each.cached, each.hub))]


def number(text: int | str) -> int:
    """Return a number that may end in K, M or B.

    >>> number("30M"), number("1.5b"), number("")
    (30000000, 1500000000, 0)

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMBG]?)", str(text or 0).strip().upper())
    if not match:
        raise UsageError(f"'{text}' is not a number of weights.", allowed="Such as 500K, 30M or 7B.")
    return int(float(match[1]) * THOUSANDS[match[2]])


def _licences(text: str) -> frozenset[str]:
    names = {each.strip().casefold() for each in text.split(",") if each.strip()}
    return frozenset((names - {PERMISSIVE}) | (FREE if PERMISSIVE in names else set()))


def _search(hub: str, query: str, modality: str, limit: int) -> list[Backbone]:
    # A filter drops some of what a hub lists, so that more is asked for than will be shown.
    return hubs.registry.get(hub)().find(query, modality, limit or 10 * LIMIT)


def _everywhere(query: str, modality: str, limit: int, progress: Progress | None) -> list[list[Backbone]]:
    found, missing, lines = [], [], []
    for name in hubs.registry.names():
        try:
            found.append(_search(name, query, modality, limit))
        except MissingExtra:
            missing.append(name)
        except HubError as error:
            lines.append(f"{name} could not be searched: {error.problem}")
    if missing:
        extras = ",".join(missing)
        lines.append(
            f"not searched, because their packages are not installed: {', '.join(missing)} "
            f"(pip install 'headstart[{extras}]')"
        )
    if progress is None:
        if lines:
            warnings.warn("; ".join(lines), stacklevel=3)
        return found
    for line in lines:
        progress.say(line)
    return found


def pull(reference: str, progress: Progress | None = None) -> dict[str, Any]:
    """Fetch a pretrained model, so that it can be used without a network, and return what it is and where.

    Raises:
        HubError: it cannot be had.
    """
    network = fetch(reference, "", progress or Quiet())
    return {**_record(network.backbone), "reference": network.backbone.reference, "place": str(network.folder)}


KEPT = {
    "embeddings": "vectors of rows, so that a second fit on the same data embeds nothing",
    "graphs": "graphs that were traced from PyTorch",
    "runs": "checkpoints of fits that were interrupted",
}
"""What headstart keeps beside models, by the folder in its cache."""


def kept() -> list[dict[str, Any]]:
    """Return what headstart keeps on this machine beside models: name, what it is, place and bytes of each."""
    places = {name: cache_folder() / name for name in KEPT}
    return [
        {"name": name, "what": KEPT[name], "size": _bytes_of(place), "place": str(place)}
        for name, place in places.items()
        if place.is_dir()
    ]


def _bytes_of(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def remove(reference: str) -> dict[str, Any]:
    """Remove a fetched model, or what else is kept, from this machine; return its reference and the bytes freed.

    Args:
        reference: `hub:name`, or a name that `kept` gives, such as `embeddings`.

    Raises:
        HubError: it is not on this machine.
    """
    if reference in KEPT:
        place = cache_folder() / reference
        if not place.is_dir():
            raise HubError(f"No {reference} are kept on this machine.", hint="headstart models du lists what is.")
        freed = _bytes_of(place)
        shutil.rmtree(place)
        return {"reference": reference, "freed": freed}
    if ":" not in reference:
        raise UsageError(f"'{reference}' is no model.", allowed=f"A reference hub:name, or one of {listed(KEPT)}.")
    backbone = Backbone.parse(reference)
    backbone = replace(backbone, hub=SHORT.get(backbone.hub, backbone.hub))
    return {"reference": backbone.reference, "freed": hubs.registry.get(backbone.hub)().remove(backbone)}


def held() -> list[dict[str, Any]]:
    """Return the models on this machine, the largest first: reference, place and bytes of each."""
    found: list[Held] = []
    for name in hubs.registry.names():
        try:
            found += hubs.registry.get(name)().held()
        except MissingExtra:
            continue
    ordered = sorted(found, key=lambda each: (-each.size, each.backbone.reference))
    return [{"reference": each.backbone.reference, "size": each.size, "place": str(each.place)} for each in ordered]


def _record(backbone: Backbone) -> dict[str, Any]:
    return {"reference": f"{backbone.hub}:{backbone.name}", **vars(backbone), "uses": list(backbone.uses)}


def total(records: Iterable[dict[str, Any]]) -> int:
    """Return the bytes of several models together."""
    return sum(int(each["size"]) for each in records)
