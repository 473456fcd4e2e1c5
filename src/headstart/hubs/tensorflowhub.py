"""Kaggle Models, where TensorFlow Hub's models are."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, final

import kagglehub

from headstart.core.backbone import Backbone, Held, Hub, Network
from headstart.core.download import locked, need_space
from headstart.core.errors import HubError, UsageError
from headstart.core.http import AGAIN, TRIES
from headstart.core.offline import need_network, offline
from headstart.core.progress import Progress
from headstart.hubs import _kept, _licences
from headstart.hubs._files import open_files

NAME = "tensorflowhub"
KEY = "KAGGLE_API_TOKEN"
TURN = "Put a token into KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY (kaggle.com, Settings, API)."
FRAMEWORKS = {
    "TENSOR_FLOW_2": "tensorFlow2",
    "TENSOR_FLOW_1": "tensorFlow1",
    "TF_LITE": "tfLite",
    "KERAS": "keras",
    "ONNX": "onnx",
    "TRANSFORMERS": "transformers",
}
"""The kinds of models that can be opened here, by the client's own names."""
SHAPE = "A model is named kaggle:owner/model/framework/variation, with @3 or /3 for its version."


@final
class Tensorflowhub(Hub):
    """`kaggle:owner/model/framework/variation@version`, kept in kagglehub's own cache (KAGGLEHUB_CACHE).

    KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, open what is not public.
    """

    def search(self, query: str) -> list[Backbone]:
        """Return the models that contain `query` and can be opened here; offline, those on this machine."""
        return self.find(query)

    def find(self, query: str, modality: str = "", limit: int = 30) -> list[Backbone]:
        """Return the same, at most `limit` models with all their variations."""
        here = {each.backbone.name: each.backbone for each in self.held()}
        if offline():
            return [replace(each, revision="") for name, each in here.items() if query.casefold() in name.casefold()]
        request = _types().ApiListModelsRequest()
        request.search, request.page_size = query, min(limit or 30, 100)
        with _sentences(f"{NAME}:{query}"), _client() as client:
            told = client.list_models(request).models
        return [replace(each, cached=each.name in here) for model in told for each in _variations(model)]

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the network on disk, its revision pinned to a version.

        Raises:
            HubError: it does not exist, is not public, cannot be reached, or fails its checksum.
        """
        name, version = _parts(backbone)
        place = _place(name)
        if offline() or (version and _is_whole(place, version)):
            version = version or max(_versions(place), key=int, default="")
            if not version or not _is_whole(place, version):
                need_network(f"'{backbone.reference}'")
        else:
            version = _download(backbone, name, version, progress)
        pinned = replace(backbone, name=name, revision=version)
        loose = replace(pinned, checksum="", uses=_uses(name))
        network = open_files(place / version, loose, _preprocessing(name))
        return _kept.verified(network, backbone.checksum, pinned)

    def held(self) -> list[Held]:
        """Return the models in kagglehub's cache, each version by itself."""
        found = []
        for marker in sorted(_place("").glob("*/*/*/*/*.complete")):
            folder = marker.with_suffix("")
            name = folder.parent.relative_to(_place("")).as_posix()
            size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
            backbone = Backbone(NAME, name, folder.name, modality="image", size=size, cached=True, uses=_uses(name))
            found.append(Held(backbone, folder, size))
        return found

    def remove(self, backbone: Backbone) -> int:
        """Remove one version of a model, or all of them where none is named, and return the bytes freed.

        Raises:
            HubError: it is not on this machine.
        """
        name, version = _parts(backbone)
        return _kept.remove(self.held(), name, version, backbone.reference)


def _parts(backbone: Backbone) -> tuple[str, str]:
    """Return a model's name of four parts, and its version, which may be empty."""
    parts = backbone.name.strip("/").split("/")
    version = backbone.revision or (parts.pop() if len(parts) == 5 else "")
    if len(parts) != 4 or not all(re.fullmatch(r"[A-Za-z0-9][\w.-]*", each) for each in parts):
        raise UsageError(f"'{backbone.reference}' is not the name of a model on Kaggle.", allowed=SHAPE)
    if version and not version.isdigit():
        raise UsageError(f"'{backbone.reference}' has the version '{version}'.", allowed="Versions are numbers.")
    return "/".join(parts), version


def _place(name: str) -> Path:
    from kagglehub.config import get_cache_folder

    return Path(get_cache_folder()).expanduser() / "models" / name


def _versions(place: Path) -> list[str]:
    return [each.stem for each in place.glob("*.complete") if each.stem.isdigit()]


def _is_whole(place: Path, version: str) -> bool:
    return (place / f"{version}.complete").is_file() and (place / version).is_dir()


def _uses(name: str) -> tuple[str, ...]:
    words = re.split(r"[/_-]", name.casefold())
    if "feature" in words:
        return ("embed",)
    return ("classify", "embed") if "classification" in words else ()


def _preprocessing(name: str) -> dict[str, Any]:
    """Return what a variation's name says: `…-224-classification` reads pictures of 224 pixels."""
    side = re.findall(r"(?:^|-)(\d{2,3})(?=-|$)", name.rpartition("/")[2])
    sizes = [int(each) for each in side if 96 <= int(each) <= 800]
    return {"size": [sizes[-1], sizes[-1]]} if sizes and len(side) > 1 else {}


def _variations(model: Any) -> Iterator[Backbone]:
    for each in model.instances or []:
        framework = FRAMEWORKS.get(str(each.framework.name).removeprefix("MODEL_FRAMEWORK_"))
        if framework:
            name = f"{model.ref}/{framework}/{each.slug}"
            yield Backbone(
                NAME,
                name,
                modality="image",
                licence=_licences.spdx(each.license_name or ""),
                size=int(each.total_uncompressed_bytes or 0),
                uses=_uses(name),
            )


@contextlib.contextmanager
def _client() -> Iterator[Any]:
    from kagglehub.clients import build_kaggle_client

    with _to_stderr(), build_kaggle_client() as client:
        yield client.models.model_api_client


@contextlib.contextmanager
def _to_stderr() -> Iterator[None]:
    # The client logs and warns on standard output, which is for results.
    logging.getLogger("kagglehub").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _download(backbone: Backbone, name: str, version: str, progress: Progress) -> str:
    """Fetch a version, the newest where none is named, and return it."""
    with _sentences(backbone.reference), _client() as client:
        version = version or _persist(lambda: _newest(client, name))
        place = _place(name)
        # The client lets two processes write the same file at once.
        with locked(place / f".{version}.lock"):
            if not _is_whole(place, version):
                need_space(f"'{backbone.reference}'", _size(client, name, version), place)
                progress.say(f"fetching {NAME}:{name}@{version} with kagglehub")
                _persist(lambda: kagglehub.model_download(f"{name}/{version}"))
    return version


def _types() -> Any:
    from kagglesdk.models.types import model_api_service  # type: ignore[import-untyped, unused-ignore]

    return model_api_service


def _handle(name: str, version: str = "") -> Any:
    from kagglehub.handle import parse_model_handle

    return parse_model_handle(f"{name}/{version}" if version else name)


def _newest(client: Any, name: str) -> str:
    handle, request = _handle(name), _types().ApiGetModelInstanceRequest()
    request.owner_slug, request.model_slug = handle.owner, handle.model
    request.framework, request.instance_slug = handle.framework_enum(), handle.variation
    return str(client.get_model_instance(request).version_number)


def _size(client: Any, name: str, version: str) -> int:
    """Return the bytes of a version's files, whose names may not lead out of their folder."""
    handle, request = _handle(name, version), _types().ApiListModelInstanceVersionFilesRequest()
    request.owner_slug, request.model_slug = handle.owner, handle.model
    request.framework, request.instance_slug = handle.framework_enum(), handle.variation
    request.version_number = handle.version
    files = _persist(lambda: client.list_model_instance_version_files(request)).files
    for each in files:
        path = PurePosixPath(each.name)
        if path.is_absolute() or ".." in path.parts:
            raise HubError(f"'{NAME}:{name}' has a file '{each.name}', which leads out of its folder.")
    return sum(int(each.size or 0) for each in files)


def _persist(call: Callable[[], Any]) -> Any:
    """Call until it gets through: the client itself gives up at the first cut; what has arrived, it takes up again."""
    import requests

    for tried in range(1, TRIES + 1):
        try:
            return call()
        except requests.HTTPError as error:
            if tried == TRIES or error.response is None or error.response.status_code not in AGAIN:
                raise
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if tried == TRIES:
                raise
        time.sleep(0.1 * 2**tried)
    return None


@contextlib.contextmanager
def _sentences(reference: str) -> Iterator[None]:
    """Turn what the client raises into a HubError, without addresses in its words."""
    import requests
    from kagglehub import exceptions

    try:
        yield
    except requests.HTTPError as error:
        raise _refused(reference, error.response.status_code if error.response is not None else 0) from error
    except exceptions.UnauthenticatedError as error:
        raise _refused(reference, 401) from error
    except exceptions.DataCorruptionError as error:
        raise HubError(f"'{reference}' arrived damaged: its checksum is wrong.", hint="Run it again.") from error
    except requests.RequestException as error:
        raise HubError(
            f"'{reference}' cannot be had: Kaggle cannot be reached.",
            hint="Is there a network? HTTPS_PROXY names a proxy. --offline uses what is on this machine.",
        ) from error
    except ValueError as error:
        raise HubError(f"'{reference}' is not the name of a model on Kaggle.", allowed=SHAPE) from error


def _refused(reference: str, status: int) -> HubError:
    if status in (401, 403):
        return HubError(
            f"'{reference}' may not be fetched so (status {status}): it is private, or its conditions are not "
            "accepted yet.",
            hint=f"Accept them on its page. {TURN}",
        )
    if status == 404:
        return HubError(f"There is no model '{reference}' on Kaggle.", allowed=SHAPE)
    return HubError(f"Kaggle did not give '{reference}' (status {status}).", hint="Run it again later.")
