"""Show: what a bundle is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart.core.bundle import Bundle
from headstart.stages.taught import PIPELINE, is_taught


def show(path: Path | str) -> dict[str, Any]:
    """Return a bundle's manifest, recipe, inputs, targets and sizes, without opening its network.

    Raises:
        BundleError: it is missing, damaged or too new.
    """
    bundle = Bundle.open(path)
    report = bundle.json("report.json")
    heads = bundle.path / "heads.safetensors"
    backbones = bundle.json("backbones.json") if (bundle.path / "backbones.json").is_file() else {}
    return {
        "bundle": str(bundle.path),
        "format": bundle.manifest["format"],
        "headstart": bundle.manifest["headstart"],
        "created": bundle.manifest["created"],
        "bytes": bundle.size(),
        "heads_bytes": heads.stat().st_size if heads.is_file() else 0,
        "backbones": backbones,
        **(_network(bundle, backbones) if is_taught(bundle.path) else _targets(bundle)),
        "verdict": report.get("verdict"),
        "files": sorted(bundle.manifest["files"]),
    }


def _targets(bundle: Bundle) -> dict[str, Any]:
    return {
        "inputs": {name: _columns(spec) for name, spec in bundle.json("inputs.json").items()},
        "targets": {
            name: {"task": spec["task"]["name"], "labels": spec["task"].get("labels")}
            for name, spec in bundle.json("targets.json").items()
        },
    }


def _network(bundle: Bundle, backbones: dict[str, Any]) -> dict[str, Any]:
    """Return what a network reads and what it was taught, in the form of a model of targets."""
    told = bundle.json(PIPELINE)
    columns = told["columns"]
    return {
        "inputs": {name: [columns["input"]] for name in backbones},
        "targets": {columns["target"]: {"task": told["use"], "labels": told["settings"].get("labels")}},
    }


def _columns(spec: dict[str, Any]) -> list[str]:
    return [column if isinstance(column, str) else column["name"] for column in spec["columns"]]
