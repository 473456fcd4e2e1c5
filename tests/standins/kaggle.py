"""A stand-in for Kaggle Models, which kagglehub can be pointed at with KAGGLE_API_ENVIRONMENT=TEST.

A folder is served: `FOLDER/owner/model/framework/variation/VERSION/…`. What is in `PRIVATE` of such a variation's
folder (a file of that name) asks for a token.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.standins._http import Address, Answer, Request, as_json, ranged, serve

PORT = 7777
"""The only port that kagglehub looks for a test server at."""
TOKEN = "kaggle-standin"
SERVICE = "/api/v1/models.ModelApiService/"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Address]:
    """Serve the models of a folder until the block ends.

    Raises:
        OSError: the port is taken.
    """
    with serve(lambda request: _answer(folder, request), PORT) as address:
        yield address


def _answer(folder: Path, request: Request) -> Answer:
    if request.path.startswith("/storage/"):
        file = folder / request.path.removeprefix("/storage/")
        if "authorization" in request.headers:
            return Answer(400, b"Only one auth mechanism allowed")
        return _file(request, file.read_bytes()) if file.is_file() else Answer(404)
    if not request.path.startswith(SERVICE):
        return Answer(404)
    given, verb = request.json(), request.path.removeprefix(SERVICE)
    if verb == "ListModels":
        return as_json({"models": _models(folder, given.get("search") or ""), "nextPageToken": "", "totalResults": 1})
    at = folder / given["ownerSlug"] / given["modelSlug"] / _framework(given["framework"]) / given["instanceSlug"]
    if not at.is_dir():
        return as_json({"code": 404, "message": "Not found"}, 404)
    if (at / "PRIVATE").exists() and request.token != TOKEN:
        return as_json({"code": 403, "message": "Permission denied"}, 403)
    if verb == "GetModelInstance":
        return as_json(_instance(at))
    version = at / str(given.get("versionNumber") or 0)
    if not version.is_dir():
        return as_json({"code": 404, "message": "Not found"}, 404)
    files = {str(each.relative_to(version)): each for each in sorted(version.rglob("*")) if each.is_file()}
    if verb == "ListModelInstanceVersionFiles":
        told = [{"name": name, "size": each.stat().st_size} for name, each in files.items()]
        return as_json({"files": told, "nextPageToken": ""})
    if verb == "DownloadModelInstanceVersion":
        name = given.get("path") or ""
        if name not in files:
            return as_json({"code": 404, "message": "Not found"}, 404)
        return Answer(302, headers={"Location": f"http://127.0.0.1:{PORT}/storage/{files[name].relative_to(folder)}"})
    return Answer(404)


def _file(request: Request, data: bytes) -> Answer:
    digest = base64.b64encode(hashlib.md5(data).digest()).decode()
    return ranged(request, data, **{"x-goog-hash": f"crc32c=AAAAAA==,md5={digest}"})


def _framework(name: str) -> str:
    words = name.removeprefix("MODEL_FRAMEWORK_").lower().split("_")
    return words[0] + "".join(each.capitalize() for each in words[1:])


def _enum(name: str) -> str:
    spelt = "".join(f"_{each}" if each.isupper() or each.isdigit() else each for each in name)
    return f"MODEL_FRAMEWORK_{spelt.upper()}"


def _instance(at: Path) -> dict[str, Any]:
    versions = sorted(int(each.name) for each in at.iterdir() if each.name.isdigit())
    size = sum(each.stat().st_size for each in (at / str(versions[-1])).rglob("*") if each.is_file())
    return {
        "id": 1,
        "slug": at.name,
        "framework": _enum(at.parent.name),
        "versionNumber": versions[-1],
        "licenseName": "Apache 2.0",
        "totalUncompressedBytes": size,
    }


def _models(folder: Path, search: str) -> list[dict[str, Any]]:
    found = []
    for model in sorted(folder.glob("*/*")):
        ref = str(model.relative_to(folder))
        if search.casefold() in ref.casefold():
            instances = [_instance(each) for each in sorted(model.glob("*/*")) if not (each / "PRIVATE").exists()]
            found.append({"id": 1, "ref": ref, "slug": model.name, "title": ref, "instances": instances})
    return found
