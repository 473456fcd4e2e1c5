"""Show: what a bundle is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart.core.bundle import Bundle


def show(path: Path | str) -> dict[str, Any]:
    """Return a bundle's manifest, recipe, inputs, targets and sizes, without opening its network.

    Raises:
        BundleError: it is missing, damaged or too new.
    """
    bundle = Bundle.open(path)
    report = bundle.json("report.json")
    backbones = bundle.json("backbones.json") if (bundle.path / "backbones.json").is_file() else {}
    return {
        "bundle": str(bundle.path),
        "format": bundle.manifest["format"],
        "headstart": bundle.manifest["headstart"],
        "created": bundle.manifest["created"],
        "bytes": bundle.size(),
        "heads_bytes": (bundle.path / "heads.safetensors").stat().st_size,
        "backbones": backbones,
        "inputs": {name: _columns(spec) for name, spec in bundle.json("inputs.json").items()},
        "targets": {
            name: {"task": spec["task"]["name"], "labels": spec["task"].get("labels")}
            for name, spec in bundle.json("targets.json").items()
        },
        "verdict": report.get("verdict"),
        "files": sorted(bundle.manifest["files"]),
    }


def _columns(spec: dict[str, Any]) -> list[str]:
    return [column if isinstance(column, str) else column["name"] for column in spec["columns"]]
