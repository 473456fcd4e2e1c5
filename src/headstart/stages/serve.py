"""Serve: models behind HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.core.bundle import MANIFEST
from headstart.core.errors import UsageError, listed
from headstart.core.progress import Console, Progress
from headstart.core.registry import require
from headstart.stages.kept import Kept
from headstart.stages.model import Model, open_targets
from headstart.stages.pretrained import Pretrained, is_reference, pretrained
from headstart.stages.taught import is_taught, open_taught

if TYPE_CHECKING:
    from headstart.server.limits import Limits
    from headstart.server.protection.protected import Protection

NEEDED = ("fastapi", "orjson", "prometheus_client", "uvicorn")
NEEDED_FOR_GRPC = ("grpc", "google.protobuf")
NAMED = re.compile(r"(?P<name>[^=/\\:]+)=(?P<path>.+)", re.DOTALL)
"""`name=PATH`"""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ +-]{0,99}")
"""What a model may be called, so that it can stand in an address."""


def serve(
    models: Any = (),
    *,
    name: str = "",
    task: str = "",
    model_folder: Path | str = "",
    host: str = "127.0.0.1",
    port: int = 8000,
    admin_port: int | None = None,
    grpc_port: int | None = None,
    limits: Limits | None = None,
    drain_seconds: int = 30,
    notice_seconds: float = 0.0,
    access_log: bool = False,
    progress: Progress | None = None,
    ready: Callable[[str], None] | None = None,
    protection: Protection | None = None,
    ledger: Path | str = "",
    store_inputs: bool = False,
    keep_days: float = 0.0,
    **more: Any,
) -> None:
    """Serve models until SIGTERM or Ctrl-C; requests that are being answered are finished first.

    Args:
        models: an opened model, a bundle's folder, a folder of bundles, or a reference such as `hf:NAME`; several of
            them in a list, or by name in a mapping. A text `NAME=PATH` gives a name.
        name: what a model is called that is the only one; its bundle's name where empty.
        task: what references are opened for, such as `generate`; what they are made for where empty.
        model_folder: a folder of bundles that is followed: what appears or changes there is served, what goes is not.
        host: the address to listen on; other than a loopback address means that other machines can ask.
        port: the port to listen on; 0 means any free one.
        admin_port: the port, on this machine only, on which models are loaded and rolled out; None for none.
        grpc_port: the port of `host` that speaks the Open Inference Protocol over gRPC; None for none.
        limits: how much to take on.
        drain_seconds: how long requests that are being answered may take after the signal.
        notice_seconds: how long the port stays open after SIGTERM while `/health/ready` answers 503, so that a load
            balancer can turn away first.
        access_log: whether to log a line for each request; bodies are never logged.
        progress: where to say the address; standard error by default.
        ready: called with the address once requests are taken.
        protection: keys, TLS, logs and who may ask; this machine only and without keys where it is None.
        ledger: a file that keeps predictions and feedback, such as predictions.sqlite; none where empty.
        store_inputs: whether the ledger keeps inputs, too.
        keep_days: after how many days it forgets predictions; 0 keeps them.
        more: as `server.run.run` takes it.

    Raises:
        MissingExtra: the serving packages are not installed.
        BundleError: a bundle cannot be opened.
        ResourceError: a port is in use or not permitted.
        UsageError: there is no such host or port, two models have the same name, or there is none.
        KeyboardInterrupt: it was stopped by Ctrl-C.
    """
    for package in NEEDED:
        require(package, "serve")
    for package in NEEDED_FOR_GRPC if grpc_port is not None else ():
        require(package, "grpc")
    from headstart.server.limits import Limits
    from headstart.server.models.folder import Folder, bundles_in
    from headstart.server.run import run
    from headstart.stages.protect import protecting

    progress = progress or Console()
    opener = opener_of(task, progress)
    wanted = named(models, name)
    seen = bundles_in(Path(model_folder)) if model_folder else {}
    for each in seen:
        _add(wanted, each, str(Path(model_folder) / each))
    if not wanted and not model_folder:
        raise UsageError("There is no model to serve.", hint="headstart serve models/tickets")
    with protecting(host, protection, ledger=ledger, store_inputs=store_inputs, keep_days=keep_days) as protected:
        run(
            {called: opener(each) for called, each in wanted.items()},
            host=host,
            port=port,
            admin_port=admin_port,
            grpc_port=grpc_port,
            limits=limits or Limits(),
            drain_seconds=drain_seconds,
            notice_seconds=notice_seconds,
            access_log=access_log,
            progress=progress,
            ready=ready,
            opener=opener,
            folder=Folder(Path(model_folder), seen=seen) if model_folder else None,
            **protected,
            **more,
        )


def opener_of(task: str, progress: Progress) -> Callable[[Any], Any]:
    """Return what opens a model for the server: a bundle's folder, a reference, or what is open already.

    Bundles on the same network share it.
    """
    kept = Kept()

    def opened(model: Any) -> Any:
        if isinstance(model, (str, Path)):
            if is_reference(str(model)):
                model = pretrained(str(model), task=task, progress=progress)
            elif is_taught(model):
                model = open_taught(model, progress, kept)
            else:
                model = open_targets(model, progress, kept, baselines=False)
        if isinstance(model, Model):
            return model.runtime
        return whole(model) if isinstance(model, Pretrained) else model

    return opened


def whole(model: Pretrained) -> Any:
    """Return a network that answers by itself as the server takes it."""
    from headstart.server.models.piped import Whole

    return Whole(model.task, model.pipeline, model.network, model.session, model.usual, model.columns)


def named(models: Any, name: str = "") -> dict[str, Any]:
    """Return models by the names that they are served under; folders of bundles are taken apart.

    Raises:
        UsageError: two have the same name, or one cannot stand in an address.
    """
    found: dict[str, Any] = {}
    if isinstance(models, Mapping):
        for called, each in models.items():
            _add(found, str(called), each)
        return found
    several = isinstance(models, Iterable) and not isinstance(models, (str, Path))
    for each in models if several else [models]:
        if not isinstance(each, (str, Path)):
            _add(found, name or _own_name(each), each)
            continue
        told = NAMED.fullmatch(str(each)) if not Path(each).exists() else None
        path = told["path"] if told else str(each)
        inner = _inner(Path(path))
        for bundle in inner:
            _add(found, bundle.name, str(bundle))
        if not inner:
            called = (told["name"] if told else "") or name or _name_of(path)
            _add(found, called, path)
    return found


def _add(found: dict[str, Any], name: str, model: Any) -> None:
    if name in found:
        raise UsageError(
            f"Two models are called '{name}': '{found[name]}' and '{model}'.", hint="Give one another name: NAME=PATH"
        )
    if not NAME.fullmatch(name):
        raise UsageError(
            f"A model cannot be called '{name[:100]}'.",
            allowed="Letters, digits, spaces and . _ + -, a letter or digit first.",
            hint="Give it another name: NAME=PATH",
        )
    found[name] = model


def _inner(path: Path) -> list[Path]:
    """Return the bundles of a folder that is none itself."""
    if not path.is_dir() or (path / MANIFEST).exists():
        return []
    found = sorted(each for each in path.iterdir() if (each / MANIFEST).is_file() and not each.name.startswith("."))
    if not found:
        inside = sorted(each.name for each in path.iterdir())
        raise UsageError(
            f"'{path}' is neither a bundle nor a folder of bundles.",
            allowed=f"A bundle has a {MANIFEST}; in this folder there is {listed(inside) or 'nothing'}.",
            hint="Make one with: headstart fit TABLE --target COLUMN --out PATH",
        )
    return found


def _name_of(path: str) -> str:
    """Return what a bundle's folder or a reference is called."""
    if is_reference(path):
        name = path.partition(":")[2].partition("@")[0].rstrip("/").rpartition("/")[2]
    else:
        name = Path(path).resolve().name
    return re.sub(r"[^A-Za-z0-9._ +-]", "_", name).lstrip("._ +-") or "model"


def _own_name(model: Any) -> str:
    bundle = getattr(model.runtime if isinstance(model, Model) else model, "bundle", None)
    if bundle is not None:
        return _name_of(str(bundle.path))
    return _name_of(model.network.backbone.reference) if isinstance(model, Pretrained) else "model"
