"""Report: show what was measured, as a page, a model card, JSON, and text for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart.core.files import write_json, write_text
from headstart.stages.report.card import card
from headstart.stages.report.html import page
from headstart.stages.report.summary import terminal
from headstart.stages.report.wording import mapping, masked, tidy

__all__ = ["terminal", "write_report"]


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write report.json, report.html and, where a model was fitted, its card README.md into an existing folder.

    Figures that are not finite become null, and passwords in addresses of the data are hidden. Parts of the report
    that are missing are not shown.

    Raises:
        ResourceError: the disk is full.
        UsageError: the folder cannot be written.
    """
    kept = tidy(report)
    for part in ("data", "recipe"):
        if part in kept:
            kept[part] = masked(kept[part])
    write_json(folder / "report.json", kept)
    write_text(folder / "report.html", page(kept))
    # A folder with the figures of an evaluation is not a model, so it has no card.
    if mapping(kept).get("kind") != "evaluate":
        write_text(folder / "README.md", card(kept))
