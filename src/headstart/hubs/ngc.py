"""NVIDIA NGC's catalogue of models."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, final
from urllib.parse import quote, urlencode

from headstart.core.backbone import Backbone, Held, Hub, Network
from headstart.core.download import fetch, locked, need_space
from headstart.core.errors import HubError, UsageError
from headstart.core.files import cache_folder, write_json
from headstart.core.http import Wanted, ask
from headstart.core.offline import need_network, offline
from headstart.core.progress import Progress
from headstart.core.unpack import SUFFIXES, unpack
from headstart.hubs import _kept
from headstart.hubs._files import open_files
from headstart.hubs._json import read_json

NAME = "ngc"
KEY = "NGC_API_KEY"
ENDPOINT = "NGC_API_ENDPOINT"
"""The environment variable that puts a mirror in the place of NVIDIA's own server."""
API = "https://api.ngc.nvidia.com"
AUTH = "https://authn.nvidia.com/token"
PERSONAL = "nvapi-"
"""How keys begin that are tokens themselves; others are exchanged for one."""
UNPACKED = "unpacked"
SHAPE = "A model is named ngc:org/model@version or ngc:org/team/model@version."


@dataclass(frozen=True)
class Place:
    """Where a model is in the catalogue; `team` may be empty."""

    org: str
    team: str
    model: str

    @property
    def name(self) -> str:
        """Its name as the catalogue writes it."""
        return "/".join(each for each in (self.org, self.team, self.model) if each)


@final
class Ngc(Hub):
    """`ngc:org/team/model@version`, opened by what files the version has.

    NGC_API_KEY opens what is not public; NGC_API_ENDPOINT names a mirror.
    """

    def search(self, query: str) -> list[Backbone]:
        """Return the models that the catalogue finds for `query`; offline, those on this machine."""
        return self.find(query)

    def find(self, query: str, modality: str = "", limit: int = 30) -> list[Backbone]:
        """Return the same, at most `limit`."""
        here = {each.backbone.name: each.backbone for each in self.held()}
        if offline():
            return [replace(each, revision="") for name, each in here.items() if query.casefold() in name.casefold()]
        asked = {
            "query": query,
            "queryFields": ["all", "description", "displayName", "name", "resourceId"],
            "fields": ["attributes", "name", "orgName", "teamName", "displayName", "resourceId"],
            "filters": [],
            "orderBy": [{"field": "score", "value": "DESC"}],
            "page": 0,
            "pageSize": min(limit or 30, 100),
        }
        url = f"{_endpoint()}/v2/search/catalog/resources/MODEL?{urlencode({'q': json.dumps(asked)})}"
        told = ask(Wanted(url, f"NGC's list of models for '{query}'", NAME))
        groups = [each for each in told.get("results", []) if each.get("groupValue") == "MODEL"]
        return [_listed(each, here) for group in groups for each in group.get("resources", [])]

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the network on disk, its revision pinned to a version.

        Raises:
            HubError: it does not exist, is not public, cannot be reached, or fails its checksum.
        """
        place, version = _parts(backbone)
        if offline() or (version and _marker(place, version).is_file()):
            version = version or max(_versions(place), key=_order, default="")
            if not version or not _marker(place, version).is_file():
                need_network(f"'{backbone.reference}'")
        else:
            version = _download(place, version, progress)
        pinned = replace(backbone, name=place.name, revision=version, checksum="")
        network = open_files(_opened(_folder(place, version)), pinned)
        return _kept.verified(network, backbone.checksum, pinned)

    def held(self) -> list[Held]:
        """Return the models that headstart keeps, each version by itself."""
        found = []
        for marker in sorted(_root().rglob("*.complete")):
            told, folder = read_json(marker), marker.with_suffix("")
            size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
            backbone = Backbone(NAME, told["name"], told["version"], modality="image", size=size, cached=True)
            found.append(Held(backbone, folder, size))
        return found

    def remove(self, backbone: Backbone) -> int:
        """Remove one version of a model, or all of them where none is named, and return the bytes freed.

        Raises:
            HubError: it is not on this machine.
        """
        place, version = _parts(backbone)
        return _kept.remove(self.held(), place.name, version, backbone.reference)


def _parts(backbone: Backbone) -> tuple[Place, str]:
    """Return where a model is, and its version, which may be empty; the catalogue's own `model:version` is read too."""
    name, _, version = backbone.name.strip("/").partition(":")
    parts = [each for each in name.split("/") if each not in ("no-team",)]
    version = backbone.revision or version
    plain = re.compile(r"[A-Za-z0-9][\w.-]*")
    if not 2 <= len(parts) <= 3 or not all(plain.fullmatch(each) for each in parts):
        raise UsageError(f"'{backbone.reference}' is not the name of a model on NGC.", allowed=SHAPE)
    if version and not plain.fullmatch(version):
        raise UsageError(f"'{backbone.reference}' has the version '{version}'.", allowed=SHAPE)
    return Place(parts[0], parts[1] if len(parts) == 3 else "", parts[-1]), version


def _root() -> Path:
    return cache_folder() / "models" / NAME


def _folder(place: Place, version: str) -> Path:
    return _root() / place.org / (place.team or "no-team") / place.model / version


def _marker(place: Place, version: str) -> Path:
    folder = _folder(place, version)
    return folder.with_name(f"{folder.name}.complete")


def _versions(place: Place) -> list[str]:
    return [each.stem for each in _folder(place, "x").parent.glob("*.complete")]


def _order(version: str) -> list[tuple[int, str]]:
    return [(int(each), "") if each.isdigit() else (-1, each) for each in re.split(r"[._-]", version)]


def _listed(told: dict[str, Any], here: dict[str, Backbone]) -> Backbone:
    attributes = told.get("attributes") or []
    values = {each["key"]: each.get("value") for each in attributes} if isinstance(attributes, list) else attributes
    size = str(values.get("latestVersionSizeInBytes") or "")
    name = str(told["resourceId"])
    return Backbone(NAME, name, modality="image", size=int(size) if size.isdigit() else 0, cached=name in here)


def _endpoint() -> str:
    return (os.environ.get(ENDPOINT) or API).rstrip("/")


def _headers(place: Place) -> dict[str, str]:
    """Return what shows who asks: nothing without a key, which sees what is public."""
    key = os.environ.get(KEY, "")
    if not key or key.startswith(PERSONAL):
        return {"Authorization": f"Bearer {key}"} if key else {}
    mirrored = f"{_endpoint()}/token" if os.environ.get(ENDPOINT) else AUTH
    scopes = [("scope", f"group/ngc:{place.org}")]
    scopes += [("scope", f"group/ngc:{place.org}/{place.team}")] if place.team else []
    basic = base64.b64encode(f"$oauthtoken:{key}".encode()).decode()
    url = f"{os.environ.get('NGC_AUTH_ENDPOINT') or mirrored}?{urlencode([('service', 'ngc'), *scopes])}"
    told = ask(Wanted(url, "NGC's token for this key", NAME, {"Authorization": f"Basic {basic}"}, key=KEY))
    return {"Authorization": f"Bearer {told['token']}"}


def _base(place: Place, headers: dict[str, str]) -> str:
    """Return the address of a model's versions: the catalogue has one for guests and one for members."""
    team = f"/team/{quote(place.team)}" if place.team else ""
    if headers:
        return f"{_endpoint()}/v2/org/{quote(place.org)}{team}/models/{quote(place.model)}/versions"
    return f"{_endpoint()}/v2/models/{quote(place.name)}/versions"


def _pages(url: str, what: str, headers: dict[str, str], name: str) -> Iterator[dict[str, Any]]:
    page, pages = 0, 1
    while page < pages:
        told = ask(Wanted(f"{url}?{urlencode({'page-number': page})}", what, NAME, headers, key=KEY))
        yield from told.get(name) or []
        page, pages = page + 1, int((told.get("paginationInfo") or {}).get("totalPages") or 1)


def _download(place: Place, version: str, progress: Progress) -> str:
    """Fetch all files of a version, the newest where none is named, and return it."""
    what = f"'{NAME}:{place.name}'"
    headers = _headers(place)
    base = _base(place, headers)
    if not version:
        every = [str(each["versionId"]) for each in _pages(base, what, headers, "modelVersions") if _is_usable(each)]
        if not every:
            raise HubError(f"{what} has no version.", hint="Look it up in the catalogue.")
        version = max(every, key=_order)
    folder, what = _folder(place, version), f"'{NAME}:{place.name}@{version}'"
    with locked(folder.with_name(f".{folder.name}.lock")):
        if not _marker(place, version).is_file():
            files = list(_pages(f"{base}/{quote(version)}/files", what, headers, "modelFiles"))
            need_space(what, sum(int(each.get("sizeInBytes") or 0) for each in files), folder)
            for each in files:
                fetch(_wanted(place, version, each, headers), folder / _safe(str(each["path"]), what), progress)
            _unpack_only(folder)
            write_json(_marker(place, version), {"name": place.name, "version": version})
    return version


def _is_usable(version: dict[str, Any]) -> bool:
    return str(version.get("status", "UPLOAD_COMPLETE")) in ("UPLOAD_COMPLETE", "")


def _wanted(place: Place, version: str, file: dict[str, Any], headers: dict[str, str]) -> Wanted:
    path = str(file["path"])
    url = f"{_base(place, headers)}/{quote(version)}/files/{quote(path)}"
    if not headers:
        team = f"team/{quote(place.team)}/" if place.team else ""
        rest = urlencode({"redirect": "true", "path": path})
        url = f"{_endpoint()}/v2/models/org/{quote(place.org)}/{team}{quote(place.model)}/{quote(version)}/files?{rest}"
    told = str(file.get("sha256_base64") or "")
    digest = base64.b64decode(told).hex() if told else ""
    what = f"{NAME}:{place.name} {path}"
    return Wanted(url, what, NAME, headers, digest, int(file.get("sizeInBytes") or 0), KEY)


def _safe(path: str, what: str) -> PurePosixPath:
    safe = PurePosixPath(path)
    if safe.is_absolute() or ".." in safe.parts or not safe.parts:
        raise HubError(f"{what} has a file '{path}', which leads out of its folder.")
    return safe


def _unpack_only(folder: Path) -> None:
    """Unpack a version that is nothing but one archive."""
    files = [each for each in folder.rglob("*") if each.is_file() and not each.name.startswith(".")]
    archives = [each for each in files if each.name.lower().endswith(SUFFIXES)]
    if len(archives) == 1 and len(files) == 1:
        unpack(archives[0], folder / UNPACKED)


def _opened(folder: Path) -> Path:
    return folder / UNPACKED if (folder / UNPACKED).is_dir() else folder
