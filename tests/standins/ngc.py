"""A stand-in for NVIDIA NGC's REST API, which headstart can be pointed at with NGC_API_ENDPOINT.

A folder is served: `FOLDER/org/team/model/VERSION/…`. A file `PRIVATE` in a model's folder asks for a token.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tests.standins._http import Address, Answer, Request, as_json, ranged, serve

KEY = "legacy-key-of-the-standin"
PERSONAL = "nvapi-standin"
TOKEN = "token-of-the-standin"
MEMBER = re.compile(r"/v2/org/([^/]+)/team/([^/]+)/models/([^/]+)/versions(?:/([^/]+)/files(?:/(.+))?)?")
GUEST = re.compile(r"/v2/models/([^/]+)/([^/]+)/([^/]+)/versions(?:/([^/]+)/files)?")
FILE = re.compile(r"/v2/models/org/([^/]+)/team/([^/]+)/([^/]+)/([^/]+)/files")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Address]:
    """Serve the models of a folder until the block ends."""
    with serve(lambda request: _answer(folder, request)) as address:
        yield address


def _answer(folder: Path, request: Request) -> Answer:
    path = request.path
    if path == "/token":
        expected = base64.b64encode(f"$oauthtoken:{KEY}".encode()).decode()
        known = request.headers.get("authorization") == f"Basic {expected}"
        return as_json({"token": TOKEN}) if known else as_json({"message": "Invalid key"}, 401)
    if path == "/v2/search/catalog/resources/MODEL":
        return as_json(_search(folder, request.query["q"][0]))
    if path.startswith("/storage/"):
        if "authorization" in request.headers:
            return Answer(400)
        data = (folder / path.removeprefix("/storage/")).read_bytes()
        return ranged(request, data, ETag=f'"{hashlib.md5(data).hexdigest()}"')
    known = request.token in (TOKEN, PERSONAL)
    for pattern, open_to in ((MEMBER, known), (FILE, True), (GUEST, True)):
        match = pattern.fullmatch(path)
        if match:
            if not open_to:
                return as_json({"requestStatus": {"statusCode": "UNAUTHORIZED"}}, 401)
            org, team, model, version, *rest = (*match.groups(), None)
            name = rest[0] if pattern is MEMBER else request.query.get("path", [None])[0]
            return _model(folder / org / team / model, version, name, known, request)
    return as_json({"requestStatus": {"statusCode": "NOT_FOUND"}}, 404)


def _model(at: Path, version: str | None, name: str | None, known: bool, request: Request) -> Answer:
    if not at.is_dir():
        return as_json({"requestStatus": {"statusCode": "NOT_FOUND"}}, 404)
    if (at / "PRIVATE").exists() and not known:
        return as_json({"requestStatus": {"statusCode": "FORBIDDEN"}}, 403)
    if version is None:
        versions = [{"versionId": each.name, "status": "UPLOAD_COMPLETE"} for each in at.iterdir() if each.is_dir()]
        return as_json(_page(request, "modelVersions", sorted(versions, key=lambda each: each["versionId"])))
    folder = at / version
    if not folder.is_dir():
        return as_json({"requestStatus": {"statusCode": "NOT_FOUND"}}, 404)
    if name is None:
        files = [each for each in sorted(folder.rglob("*")) if each.is_file()]
        return as_json(_page(request, "modelFiles", [_told(each, folder) for each in files]))
    if not (folder / name).is_file():
        return Answer(404)
    host = request.headers["host"].replace("127.0.0.1", "localhost")
    root = at.parents[2]
    return Answer(302, headers={"Location": f"http://{host}/storage/{quote(str((folder / name).relative_to(root)))}"})


def _told(file: Path, folder: Path) -> dict[str, object]:
    digest = base64.b64encode(hashlib.sha256(file.read_bytes()).digest()).decode()
    return {"path": str(file.relative_to(folder)), "sizeInBytes": file.stat().st_size, "sha256_base64": digest}


def _page(request: Request, name: str, every: list[dict[str, object]], size: int = 2) -> dict[str, object]:
    page = int(request.query.get("page-number", ["0"])[0])
    pages = -(-len(every) // size)
    return {
        name: every[page * size : (page + 1) * size],
        "paginationInfo": {"index": page, "size": size, "totalPages": pages, "totalResults": len(every)},
    }


def _search(folder: Path, asked: str) -> dict[str, object]:
    query = json.loads(asked)["query"].casefold()
    models = [each for each in sorted(folder.glob("*/*/*")) if each.is_dir() and not (each / "PRIVATE").exists()]
    resources = [
        {
            "resourceId": str(each.relative_to(folder)),
            "name": each.name,
            "attributes": [{"key": "latestVersionSizeInBytes", "value": "123456"}],
        }
        for each in models
        if query in str(each.relative_to(folder)).casefold()
    ]
    return {"results": [{"groupValue": "_scored", "resources": []}, {"groupValue": "MODEL", "resources": resources}]}
