"""A stand-in for the Hugging Face Hub, which its own client library can be pointed at with HF_ENDPOINT.

A folder of repositories is served: `FOLDER/owner/name/…` or `FOLDER/name/…`. `FOLDER/owner/name@v1/…` is the same
repository at the revision `v1`. A file `.repo.json` in it is merged into what the API tells (`pipeline_tag`, `tags`,
`cardData` …); `"private": true` and `"gated": "manual"` ask for a token. What is pushed is written into the folder.

    with serving(folder) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.standins._http import Address, Answer, Request, as_json, ranged, serve

TOKEN = "hf_standin"
"""A token that sees what is private, but was not let into what is gated."""
MEMBER = "hf_member"
"""A token that sees everything."""
LARGE = (".safetensors", ".bin", ".pth", ".h5", ".onnx", ".msgpack", ".pt", ".ckpt")
"""Suffixes of the files that are kept as large files (LFS), on another host."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Address]:
    """Serve the repositories of a folder until the block ends."""
    hub = Hub(folder)
    with serve(hub.answer) as address:
        hub.address = address
        yield address


@dataclass
class Hub:
    """The repositories of a folder, as the Hub's HTTP API tells them."""

    folder: Path
    address: Address | None = None

    def __post_init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def answer(self, request: Request) -> Answer:
        path = request.path.strip("/")
        if path.startswith("cdn/"):
            return self._object(request, path.removeprefix("cdn/"))
        if path == "api/models":
            return self._listing(request)
        if path == "api/whoami-v2":
            known = request.token in (TOKEN, MEMBER)
            return as_json({"name": "me", "type": "user", "orgs": []}) if known else _refused(401, "", "Invalid token")
        if path == "api/validate-yaml":
            return as_json({"errors": [], "warnings": []})
        if path == "api/repos/create":
            return self._create(request)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(request)
        if path.startswith("api/models/"):
            return self._api(request, path.removeprefix("api/models/"))
        repo, found, rest = path.partition("/resolve/")
        return self._resolve(request, repo, rest) if found else _refused(404, "RepoNotFound", "Repository not found")

    # What there is.

    def _place(self, repo: str, revision: str = "main") -> Path | None:
        at = self.folder / repo if revision == "main" else self.folder / f"{repo}@{revision}"
        if at.is_dir():
            return at
        for each in self.folder.glob(f"{repo}*"):
            if each.is_dir() and each.name.partition("@")[0] == repo.rpartition("/")[2] and commit(each) == revision:
                return each
        return None

    def _guard(self, request: Request, repo: str, files: bool) -> Answer | None:
        at = self._place(repo)
        about = info(at) if at else {}
        hidden = at is None or (about.get("private") and request.token not in (TOKEN, MEMBER))
        if hidden:
            anonymous = request.token not in (TOKEN, MEMBER)
            return _refused(401 if anonymous else 404, "RepoNotFound", "Repository not found")
        if files and about.get("gated") and request.token != MEMBER:
            status = 403 if request.token == TOKEN else 401
            return _refused(status, "GatedRepo", f"Access to model {repo} is restricted.")
        return None

    def _listing(self, request: Request) -> Answer:
        def asked(name: str) -> str:
            return request.query.get(name, [""])[0]

        found = []
        for at in sorted(each.parent for each in self.folder.rglob("*") if each.name in ("config.json", ".repo.json")):
            repo = str(at.relative_to(self.folder))
            if "@" in repo or (at.parent / "config.json").exists() or repo in [each["id"] for each in found]:
                continue
            about = self._info(repo, at)
            matches = asked("search").casefold() in repo.casefold()
            tags = set(request.query.get("filter", [])) | set(request.query.get("pipeline_tag", []))
            if matches and not about.get("private") and tags <= {about.get("pipeline_tag"), *about["tags"]}:
                found.append(about)
        return as_json(found[: int(asked("limit") or len(found))])

    def _info(self, repo: str, at: Path) -> dict[str, Any]:
        about = {"private": False, "gated": False, "downloads": 7, "likes": 1, "tags": []} | info(at)
        large = {path: data for path, data in files(at).items() if path.endswith(".safetensors")}
        if large:
            about.setdefault(
                "safetensors", {"total": sum(_parameters(data) for data in large.values()), "parameters": {}}
            )
        siblings = [{"rfilename": path} for path in files(at)]
        return {"_id": repo, "id": repo, "modelId": repo, "sha": commit(at), "siblings": siblings, **about}

    def _api(self, request: Request, path: str) -> Answer:
        for verb in ("/preupload/", "/commit/", "/tree/", "/revision/"):
            repo, found, rest = path.partition(verb)
            if found:
                break
        else:
            repo, verb, rest = path, "/revision/", "main"
        refused = self._guard(request, repo, files=verb == "/tree/")
        if refused:
            return refused
        if verb in ("/preupload/", "/commit/"):
            return self._upload(request, repo, verb)
        at = self._place(repo, rest)
        if at is None:
            return _refused(404, "RevisionNotFound", f"Invalid rev id: {rest}")
        if verb == "/revision/":
            return as_json(self._info(repo, at))
        return as_json([_entry(name, data) for name, data in files(at).items()])

    # Downloads.

    def _resolve(self, request: Request, repo: str, rest: str) -> Answer:
        refused = self._guard(request, repo, files=True)
        if refused:
            return refused
        revision, _, name = rest.partition("/")
        at = self._place(repo, revision)
        if at is None:
            return _refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        data = files(at).get(name)
        if data is None:
            return _refused(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": commit(at)})
        headers = {"X-Repo-Commit": commit(at)}
        if not name.endswith(LARGE):
            return ranged(request, data, ETag=f'"{_blob(data)}"', **headers)
        digest = hashlib.sha256(data).hexdigest()
        self.objects[digest] = data
        assert self.address is not None
        # Another host, as the real one has, so that a client that sends its token there is found out.
        elsewhere = self.address.replace("127.0.0.1", "localhost")
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "ETag": f'"{_blob(data)}"'}
        return Answer(302, b"", {**headers, **linked, "Location": f"{elsewhere}/cdn/{digest}"})

    def _object(self, request: Request, digest: str) -> Answer:
        if request.method == "PUT":
            self.objects[digest] = request.body
            return Answer(200 if hashlib.sha256(request.body).hexdigest() == digest else 400)
        if digest not in self.objects:
            return Answer(404)
        if "authorization" in request.headers:
            return Answer(400, b"Only one auth mechanism allowed")
        return ranged(request, self.objects[digest], ETag=f'"{digest}"')

    # Uploads.

    def _create(self, request: Request) -> Answer:
        if request.token not in (TOKEN, MEMBER):
            return _refused(401, "", "Invalid username or password.")
        given = request.json()
        repo = f"{given.get('organization') or 'me'}/{given['name']}"
        at = self.folder / repo
        if at.exists():
            return as_json({"error": "exists", "url": f"{self.address}/{repo}"}, 409)
        at.mkdir(parents=True)
        hidden = bool(given.get("private")) or given.get("visibility") == "private"
        (at / ".repo.json").write_text(json.dumps({"private": hidden}))
        return as_json({"url": f"{self.address}/{repo}", "name": repo, "id": repo})

    def _upload(self, request: Request, repo: str, verb: str) -> Answer:
        if request.token not in (TOKEN, MEMBER):
            return _refused(401, "", "Invalid username or password.")
        at = self.folder / repo
        if verb == "/preupload/":
            modes = [
                {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(LARGE) else "regular"}
                for each in request.json()["files"]
            ]
            return as_json({"files": [{**each, "shouldIgnore": False, "oid": None} for each in modes]})
        with self.lock:
            for line in request.body.splitlines():
                self._write(at, json.loads(line))
        return as_json({"commitUrl": f"{self.address}/{repo}/commit/{commit(at)}", "commitOid": commit(at)})

    def _write(self, at: Path, operation: dict[str, Any]) -> None:
        value = operation["value"]
        if operation["key"] in ("file", "lfsFile"):
            target = at / value["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            whole = operation["key"] == "file"
            target.write_bytes(base64.b64decode(value["content"]) if whole else self.objects[value["oid"]])
        elif operation["key"] == "deletedFile":
            (at / value["path"]).unlink()

    def _batch(self, request: Request) -> Answer:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.address}/cdn/{each['oid']}", "header": {}}}}
            for each in request.json()["objects"]
        ]
        return as_json({"transfer": "basic", "objects": objects})


def files(at: Path) -> dict[str, bytes]:
    """Return the files of a repository by their path in it."""
    return {
        str(each.relative_to(at)): each.read_bytes()
        for each in sorted(at.rglob("*"))
        if each.is_file() and each.name != ".repo.json"
    }


def commit(at: Path) -> str:
    """Return a repository's commit: 40 hexadecimal digits that change with its files."""
    names = "".join(f"{path}{_blob(data)}" for path, data in files(at).items())
    return hashlib.sha1(names.encode()).hexdigest()


def info(at: Path) -> dict[str, Any]:
    told = at / ".repo.json"
    return json.loads(told.read_text()) if told.exists() else {}


def _entry(name: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _parameters(data: bytes) -> int:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    total = 0
    for name, each in header.items():
        if name != "__metadata__":
            count = 1
            for side in each["shape"]:
                count *= side
            total += count
    return total


def _refused(status: int, code: str, message: str, **headers: str) -> Answer:
    told = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return as_json({"error": message}, status, **told, **headers)
