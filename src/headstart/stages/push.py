"""Push: put a fitted model where others find it: on a hub, or in a folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart import hubs
from headstart.core.backbone import REFERENCE, Backbone
from headstart.core.bundle import MANIFEST, Bundle
from headstart.core.errors import BundleError, listed
from headstart.core.files import atomic_folder
from headstart.core.progress import Progress, Quiet
from headstart.stages.networks import SHORT

TEXTS = (".json", ".toml", ".md", ".html", ".txt")
SECRETS = {
    "a password in an address": rb"[a-z][a-z0-9+.-]*://[^/\s:@\"'<>]+:[^/\s@\"'<>*]+@",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a Hugging Face token": rb"\bhf_[A-Za-z0-9]{30,}",
    "an NVIDIA key": rb"\bnvapi-[A-Za-z0-9_-]{30,}",
    "an AWS key": rb"\bAKIA[A-Z0-9]{16}\b",
    "a GitHub token": rb"\bgh[pousr]_[A-Za-z0-9]{30,}",
}
NAMED = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIAL)", re.IGNORECASE)
SHORTEST = 12
"""Characters from which an environment variable's value counts as a secret that could be recognised in a file."""


def push(bundle: Path | str, to: str, *, private: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Put a fitted model, with its model card, onto a hub or into a folder, and return where it is.

    Only the files that the bundle itself lists are taken, and none of them if one holds a secret.

    Args:
        bundle: the fitted model's folder.
        to: `hf:owner/name`, with `@branch` where it is not the main one; or a folder.
        private: on a hub, only its owner sees it; what is there already stays as visible as it is.
        progress: what hears of the steps.

    Raises:
        BundleError: it is missing or damaged, needs a backbone that only this machine has, or holds a secret.
        HubError: the hub cannot be reached, or the user may not push there.
    """
    opened = Bundle.open(bundle)
    files = sorted([*opened.manifest["files"], MANIFEST])
    _refuse_secrets(opened, files)
    match = REFERENCE.fullmatch(to)
    if match is None or match["hub"] not in {*SHORT, *hubs.registry.names()}:
        Bundle.check_place(to)
        place = str(_copied(opened, files, Path(to)))
    else:
        _refuse_what_is_only_here(opened)
        backbone = Backbone.parse(to)
        backbone = replace(backbone, hub=SHORT.get(backbone.hub, backbone.hub))
        (progress or Quiet()).say(f"pushing {len(files)} files, {opened.size() / 1e6:.1f} MB, to {to}")
        place = hubs.registry.get(backbone.hub)().push(backbone, opened.path, files, private)
    return {"bundle": str(opened.path), "to": to, "place": place, "files": files, "bytes": opened.size()}


def _copied(bundle: Bundle, files: Iterable[str], to: Path) -> Path:
    with atomic_folder(to) as part:
        for name in files:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, part / name)
    return Bundle.open(to).path


def _refuse_secrets(bundle: Bundle, files: Iterable[str]) -> None:
    for name in files:
        if name.endswith(TEXTS):
            for what in _secrets((bundle.path / name).read_bytes()):
                raise BundleError(
                    f"'{name}' of the bundle '{bundle.path}' holds {what}; nothing was pushed.",
                    hint="Fit again without it in the data, its address, or the options.",
                )


def _secrets(content: bytes) -> Iterator[str]:
    for what, pattern in SECRETS.items():
        if re.search(pattern, content):
            yield what
    for name, value in os.environ.items():
        if NAMED.search(name) and len(value) >= SHORTEST and value.encode("utf-8", "surrogateescape") in content:
            yield f"the value of the environment variable {name}"


def _refuse_what_is_only_here(bundle: Bundle) -> None:
    for name in ("backbones.json", "backbone.json"):
        if not (bundle.path / name).is_file():
            continue
        told = bundle.json(name)
        specs = [told] if "reference" in told else list(told.values())
        away = [each["reference"] for each in specs if not each["portable"] and _is_here_only(each)]
        if away:
            raise BundleError(
                f"The bundle '{bundle.path}' needs {listed(away)}, which only this machine has.",
                hint="Fit it again with --portable, so that it carries its backbone.",
            )


def _is_here_only(spec: dict[str, Any]) -> bool:
    return str(spec["reference"]).startswith("local:") or bool(spec.get("weights"))
