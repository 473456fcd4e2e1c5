"""The bundle of a network that was tuned to answer by itself: written, and opened again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart import objectives, pipelines
from headstart.core.bundle import Bundle
from headstart.core.errors import BundleError
from headstart.core.objective import Objective
from headstart.core.progress import Progress, Quiet
from headstart.core.recipe import Recipe
from headstart.stages.kept import Kept, open_for
from headstart.stages.networks import Opened, vendor
from headstart.stages.pretrained import Pretrained

PIPELINE = "pipeline.json"
"""The file by which such a bundle is known."""


@dataclass(frozen=True)
class Taught:
    """What such a bundle says of itself: the task, and what its answers are judged by."""

    task: str
    objective: Objective


def save_taught(folder: Path, recipe: Recipe, task: str, objective: Objective, opened: Opened) -> None:
    """Write recipe, pipeline and network; the caller writes the report and the manifest."""
    (folder / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    read, target = objective.columns
    told = {
        "use": task,
        "columns": {"input": read, "target": target, "beside": list(objective.beside)},
        "usual": dict(objective.usual),
        "settings": objective.settings(),
    }
    _json(folder / PIPELINE, told)
    modality = opened.network.backbone.modality
    _json(folder / "backbones.json", {modality: opened.spec(True)})
    vendor(opened, folder / "backbone" / modality)


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def is_taught(path: Path | str) -> bool:
    """Return whether a folder is the bundle of a network that answers by itself."""
    try:
        return (Path(path) / PIPELINE).is_file()
    except (OSError, ValueError):
        return False


def taught_of(bundle: Bundle) -> Taught:
    """Return what a bundle says of its task.

    Raises:
        BundleError: it says nothing of it.
        MissingExtra: the task needs a package that is not installed.
    """
    told = bundle.json(PIPELINE)
    try:
        return Taught(told["use"], objectives.registry.get(told["use"]).load(told["settings"]))
    except (KeyError, TypeError) as error:
        raise BundleError(f"'{bundle.path / PIPELINE}' is not what headstart writes: {error!r} is missing.") from error


def open_taught(path: Path | str, progress: Progress | None = None, kept: Kept | None = None) -> Pretrained:
    """Open a bundle of a network that answers by itself.

    Args:
        kept: networks that are open already, which it may share.

    Raises:
        BundleError: it is missing, damaged or too new.
        HubError: no engine here can run its network.
    """
    bundle = Bundle.open(path)
    told = bundle.json(PIPELINE)
    opened = next(iter(open_for(bundle, progress or Quiet(), kept).values()), None)
    if opened is None or not isinstance(told, dict) or "use" not in told:
        raise BundleError(f"The bundle '{bundle.path}' does not say what its network does.")
    pipeline = pipelines.registry.get(told["use"])()
    return Pretrained(
        told["use"],
        pipeline,
        opened.network,
        opened.session,
        usual=told.get("usual") or {},
        columns=[told["columns"]["input"], *told["columns"]["beside"]],
        bundle=bundle,
        report=bundle.json("report.json"),
    )
