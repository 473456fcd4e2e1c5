"""PyTorch Hub: networks that a code repository builds. Their code runs, so they have to be trusted."""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from headstart.core.backbone import Backbone, Held, Hub, Network
from headstart.core.errors import HubError, UsageError, listed, nearest
from headstart.core.offline import need_network
from headstart.core.progress import Progress
from headstart.core.registry import require
from headstart.core.trust import need_trust
from headstart.hubs import _names, _vision
from headstart.hubs._folder import digest
from headstart.hubs._images import IMAGENET

ENDPOINT = "TORCHHUB_ENDPOINT"
"""The environment variable that names another host of code archives."""
PUBLIC = "https://github.com"
NAME = re.compile(r"(?P<owner>[\w.-]+)/(?P<repository>[\w.-]+):(?P<entry>[A-Za-z_]\w*)")
BRANCHES = ("main", "master")
"""What is looked for where no revision is named."""


@final
class Torchhub(Hub):
    """`torchhub:owner/repository:entry@revision`: an image network that the entry of a `hubconf.py` returns.

    The repository is kept where `torch.hub` keeps it (TORCH_HOME). Nothing of it runs before `--trust-remote-code`.
    """

    def search(self, query: str) -> list[Backbone]:
        """Return the repositories on this machine whose name contains `query`; PyTorch Hub cannot be searched."""
        return [each.backbone for each in self.held() if query.casefold() in each.backbone.name.casefold()]

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the network that a repository builds.

        Raises:
            HubError: it cannot be had, is not trusted, or has no such entry.
            UsageError: the name is not of the form owner/repository:entry.
        """
        match = NAME.fullmatch(backbone.name)
        if match is None:
            raise UsageError(
                f"'{backbone.name}' does not name an entry of a repository.",
                allowed="torchhub:owner/repository:entry, or with a branch or tag: …:entry@v1.0",
            )
        folder = _kept(match["owner"], match["repository"], backbone.revision)
        if folder is None:
            folder = _fetched(match["owner"], match["repository"], backbone, progress)
        code = sorted(each for each in folder.rglob("*.py") if each.is_file())
        need_trust(backbone.reference, [each.relative_to(folder).as_posix() for each in code])
        given = _vision.given(backbone)
        config = _entry(folder, match["entry"], given is None)
        weights = given or folder / "hubconf.py"
        labels = _names.known(1000)
        checksum = _vision.verified(backbone, given) if given else _pinned(backbone, code)
        return Network(
            folder=folder if given is None else given.parent,
            architecture=match["entry"],
            config=config | {"repository": str(folder), "entry": match["entry"]},
            weights=weights,
            backbone=replace(
                backbone,
                checksum=checksum,
                modality="image",
                width=_width(folder, match["entry"]),
                size=sum(each.stat().st_size for each in [given, *code] if each),
                cached=True,
                uses=("classify", "embed"),
            ),
            preprocessing={"size": 256, "crop": [224, 224], "scale": _vision.SCALE, "centre": "round", **IMAGENET},
            library="torchhub",
            labels=_vision.class_names(weights, labels) if given else labels,
        )

    def held(self) -> list[Held]:
        """Return the repositories that are kept, without their entries, which only their code knows."""
        found = []
        for folder in sorted((_vision.torch_home() / "hub").glob("*_*_*")):
            if (folder / "hubconf.py").is_file():
                owner, rest = folder.name.split("_", 1)
                repository, revision = rest.rsplit("_", 1)
                size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
                backbone = Backbone("torchhub", f"{owner}/{repository}", revision, modality="image", cached=True)
                found.append(Held(replace(backbone, size=size), folder, size))
        return found


def _kept(owner: str, repository: str, revision: str) -> Path | None:
    """Return the folder of a repository on this machine, or None."""
    for each in [revision] if revision else BRANCHES:
        folder = _vision.torch_home() / "hub" / "_".join([owner, repository, each.replace("/", "_")])
        if (folder / "hubconf.py").is_file():
            return folder
    return None


def _fetched(owner: str, repository: str, backbone: Backbone, progress: Progress) -> Path:
    """Fetch and unpack a repository's archive; none of its code runs."""
    from headstart.core.download import fetch
    from headstart.core.files import atomic_folder
    from headstart.core.http import Wanted
    from headstart.core.unpack import unpack

    need_network(f"The repository {owner}/{repository}")
    base = os.environ.get(ENDPOINT, PUBLIC).rstrip("/")
    refusal = HubError(f"'{owner}/{repository}' has none of the branches {listed(BRANCHES)}.")
    for each in [backbone.revision] if backbone.revision else BRANCHES:
        folder = _vision.torch_home() / "hub" / "_".join([owner, repository, each.replace("/", "_")])
        archive = folder.with_name(f"{folder.name}.zip")
        wanted = Wanted(f"{base}/{owner}/{repository}/zipball/{each}", f"{owner}/{repository}@{each}", "torchhub")
        try:
            fetch(wanted, archive, progress)
        except HubError as error:
            refusal = error
            continue
        with atomic_folder(folder) as part:
            unpacked = unpack(archive, part / "archive")
            inner = [each for each in unpacked.iterdir() if each.is_dir()]
            if len(inner) != 1 or not (inner[0] / "hubconf.py").is_file():
                raise HubError(f"'{owner}/{repository}' has no hubconf.py: it is not a repository of PyTorch Hub.")
            for file in inner[0].iterdir():
                os.replace(file, part / file.name)
            inner[0].rmdir()
            unpacked.rmdir()
        archive.unlink(missing_ok=True)
        return folder
    raise refusal


def _pinned(backbone: Backbone, code: list[Path]) -> str:
    found = digest(code)
    if backbone.checksum and backbone.checksum != found:
        raise HubError(
            f"The code of '{backbone.reference}' is not what it was: its SHA-256 differs.",
            hint="Name the revision that was used, or fit again.",
        )
    return found


def _entry(folder: Path, entry: str, pretrained: bool) -> dict[str, Any]:
    """Return how an entry is asked for its published weights, or for none."""
    hub = require("torch.hub", "torchhub")
    try:
        with hub._add_to_sys_path(str(folder)):
            code = hub._import_module("hubconf", str(folder / "hubconf.py"))
    except Exception as error:  # It is foreign code.
        raise HubError(
            f"The code in '{folder}' fails: {type(error).__name__}: {str(error)[:300]}",
            hint="It may need a package that is not installed.",
        ) from error
    entries = [name for name in dir(code) if callable(getattr(code, name)) and not name.startswith("_")]
    if entry not in entries:
        raise HubError(
            f"The repository has no entry '{entry}'.",
            allowed=f"Its entries: {listed(entries)}.",
            hint=nearest(entry, entries),
        )
    asked = inspect.signature(getattr(code, entry)).parameters
    if "pretrained" in asked:
        return {"options": {"pretrained": pretrained}}
    if "weights" in asked:
        return {"options": {"weights": "DEFAULT" if pretrained else None}}
    return {"options": {}}


def _width(folder: Path, entry: str) -> int:
    """Return how many numbers the last layer reads, from the architecture alone; 0 where it cannot be told."""
    torch = require("torch", "torchhub")
    options = _entry(folder, entry, False)["options"]
    try:
        with torch.device("meta"):
            module = torch.hub.load(str(folder), entry, source="local", **options)
        layers = [each for each in module.modules() if isinstance(each, torch.nn.Linear)]
    except Exception:  # It is foreign code: what it raises on an unusual device says nothing of the network.
        return 0
    return int(layers[-1].in_features) if layers else 0
