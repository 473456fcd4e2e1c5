"""The Hugging Face Hub."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import huggingface_hub

from headstart.core import VERSION
from headstart.core.backbone import Backbone, Held, Hub, Network
from headstart.core.download import fetch
from headstart.core.errors import HubError
from headstart.core.http import Wanted
from headstart.core.offline import need_network, offline
from headstart.core.progress import Progress
from headstart.hubs import _huggingface as ask
from headstart.hubs import _licences, _listing
from headstart.hubs._choose import chosen
from headstart.hubs._files import BUNDLE, open_files
from headstart.hubs._folder import need_no_code
from headstart.hubs._json import read_json

NAME = "huggingface"
BRANCH = "main"
ENTRY = ("model_index.json", "config.json")
"""The file that says what a repository is, the first that is there."""


@final
class Huggingface(Hub):
    """`hf:owner/name@revision`: a model of the Hugging Face Hub, kept in the hub's own cache (HF_HOME).

    Weights are safetensors where there are any. HF_TOKEN, HF_ENDPOINT, HF_HUB_DISABLE_XET and proxies are respected.
    """

    def search(self, query: str) -> list[Backbone]:
        """Return the most fetched models whose name contains `query`; offline, those on this machine."""
        return self.find(query)

    def find(self, query: str, modality: str = "", limit: int = 30) -> list[Backbone]:
        """Return at most `limit` models of one modality, the most fetched first."""
        here = {each.backbone.name: each.backbone for each in self.held()}
        if offline():
            found = [each for each in here.values() if query.casefold() in each.name.casefold()]
            return [replace(each, revision="") for each in found if modality in ("", each.modality)][: limit or None]
        with ask.sentences(f"{NAME}:{query}"):
            api = ask.client()
            ask.knock(api)
            told = _listing.listed(api, query, modality, limit or 30)
        return [replace(each, cached=True, width=here[each.name].width) if each.name in here else each for each in told]

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the network on disk, its revision pinned to a commit.

        Raises:
            HubError: it does not exist, is gated or private, cannot be reached, or fails its checksum.
        """
        commit = _commit_here(backbone)
        whole = len(backbone.revision) == 40 and commit == backbone.revision
        # A commit never changes: what is here of it needs no network.
        if not offline() and not (whole and _opens(backbone, commit)):
            try:
                with ask.sentences(backbone.reference), ask.quietly():
                    commit = _download(backbone, progress)
            except ask.Unreachable:
                if not (commit and _opens(backbone, commit)):
                    raise
                progress.say("the hub cannot be reached; taking what was fetched earlier")
        if not commit:
            raise HubError(
                f"'{backbone.reference}' is not on this machine, and the network is switched off.",
                allowed="Offline, only what has been fetched before can be used.",
                hint=f"Fetch it while there is a network: headstart models pull {backbone.reference}",
            )
        return _open(backbone, commit)

    def push(self, backbone: Backbone, folder: Path, files: Sequence[str], private: bool) -> str:
        """Commit files to a repository of the user's, made where there is none, and return its page.

        Raises:
            HubError: the hub cannot be reached, or the token may not do this.
        """
        need_network(f"The hub, which '{backbone.reference}' is pushed to,")
        api, branch = ask.client(), backbone.revision or BRANCH
        with ask.sentences(backbone.reference):
            made = api.create_repo(backbone.name, private=private or None, exist_ok=True)
            if branch != BRANCH:
                api.create_branch(made.repo_id, branch=branch, exist_ok=True)
            api.upload_folder(
                repo_id=made.repo_id,
                folder_path=folder,
                allow_patterns=[glob.escape(each) for each in files],
                revision=branch,
                commit_message=f"Pushed by headstart {VERSION}",
            )
        return str(made)

    def held(self) -> list[Held]:
        """Return the models in the hub's cache, each revision by itself."""
        found = []
        for repo, revision in _revisions():
            backbone = _listing.described(repo.repo_id, revision.snapshot_path)
            if backbone:
                size = int(revision.size_on_disk)
                held = replace(backbone, revision=revision.commit_hash, size=backbone.size or size)
                found.append(Held(held, Path(revision.snapshot_path), size))
        return sorted(found, key=lambda each: each.backbone.reference)

    def remove(self, backbone: Backbone) -> int:
        """Remove one revision of a model, or all of them where none is named, and return the bytes freed.

        Raises:
            HubError: it is not on this machine.
        """
        commits = [
            str(revision.commit_hash)
            for repo, revision in _revisions()
            if repo.repo_id == backbone.name
            and (not backbone.revision or revision.commit_hash == (_commit_here(backbone) or backbone.revision))
        ]
        if not commits:
            raise HubError(f"'{backbone.reference}' is not on this machine.", hint="See what is: headstart models du")
        plan = huggingface_hub.scan_cache_dir(ask.cache_dir()).delete_revisions(*commits)
        plan.execute()
        return int(plan.expected_freed_size)


def _revisions() -> Iterator[tuple[Any, Any]]:
    with contextlib.suppress(huggingface_hub.CacheNotFound):
        for repo in huggingface_hub.scan_cache_dir(ask.cache_dir()).repos:
            if repo.repo_type == "model":
                for revision in repo.revisions:
                    yield repo, revision


def _commit_here(backbone: Backbone) -> str:
    """Return the commit that a revision meant when it was last fetched; empty where it was not."""
    folder, wanted = ask.repository(backbone.name), backbone.revision or BRANCH
    if (folder / "snapshots" / wanted).is_dir() and "/" not in wanted:
        return wanted
    with contextlib.suppress(OSError):
        return (folder / "refs" / wanted).read_text(encoding="utf-8").strip()
    return ""


def _opens(backbone: Backbone, commit: str) -> bool:
    try:
        _open(backbone, commit)
    except HubError:
        return False
    return True


def _open(backbone: Backbone, commit: str) -> Network:
    folder = ask.repository(backbone.name) / "snapshots" / commit
    licence = backbone.licence or _licences.of_card(folder)
    network = open_files(folder, replace(backbone, revision=commit, licence=licence, checksum=""))
    if backbone.checksum and network.backbone.checksum != backbone.checksum:
        raise HubError(
            f"The weights of '{backbone.reference}' are not the pinned ones: their SHA-256 is "
            f"{network.backbone.checksum[:12]}…, not {backbone.checksum[:12]}….",
            hint=f"If its files are damaged: headstart models rm {backbone.reference}, then run again.",
        )
    return network


def _download(backbone: Backbone, progress: Progress) -> str:
    """Fetch what the model is made of, and return the commit."""
    api, name = ask.client(), backbone.name
    names = [each.rfilename for each in api.model_info(name, revision=backbone.revision or BRANCH).siblings or []]
    entry = next((each for each in (*ENTRY, BUNDLE, *sorted(names)) if each in names), "")
    if not entry:
        raise HubError(f"'{backbone.reference}' is empty.")
    # The file is asked for by branch, so that the client notes what the branch means now, for when we are offline.
    first = Path(api.hf_hub_download(name, entry, revision=backbone.revision or BRANCH, cache_dir=ask.cache_dir()))
    commit = first.relative_to(ask.repository(name) / "snapshots").parts[0]
    told = read_json(first) if entry in ENTRY else {}
    code = entry == "config.json" and bool(told.get("auto_map"))
    if code:
        need_no_code(first.parent, told, backbone.reference)
    tree = {each.path: each for each in api.list_repo_tree(name, recursive=True, revision=commit) if _is_file(each)}
    wanted = list(tree) if entry == BUNDLE else chosen(tree, told if entry == ENTRY[0] else None, code)
    for path in wanted:
        if tree[path].lfs and not (tree[path].xet_hash and ask.fetches_chunks()):
            _large(api, backbone, commit, tree[path], progress)
    api.snapshot_download(name, revision=commit, allow_patterns=wanted, cache_dir=ask.cache_dir(), max_workers=4)
    return commit


def _is_file(entry: Any) -> bool:
    return isinstance(entry, huggingface_hub.hf_api.RepoFile)


def _large(api: Any, backbone: Backbone, commit: str, entry: Any, progress: Progress) -> None:
    """Fetch a large file into the cache's blobs, where the client then finds it.

    The client itself begins a large file again when its process was stopped; this goes on where it stopped.
    """
    blob = ask.repository(backbone.name) / "blobs" / entry.lfs.sha256
    if not blob.exists():
        wanted = Wanted(
            url=huggingface_hub.hf_hub_url(backbone.name, entry.path, revision=commit, endpoint=api.endpoint),
            what=f"{backbone.hub}:{backbone.name} {entry.path}",
            extra=NAME,
            headers=ask.headers(),
            sha256=entry.lfs.sha256,
            size=entry.lfs.size,
            key=ask.KEY,
        )
        fetch(wanted, blob, progress)
