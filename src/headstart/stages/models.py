"""Models: what pretrained models there are."""

from __future__ import annotations

from typing import Any

from headstart import hubs
from headstart.core.progress import Progress, Quiet
from headstart.stages.networks import open_network


def models(query: str = "", hub: str = "") -> list[dict[str, Any]]:
    """Return the pretrained models whose name contains `query`, on one hub or all.

    Raises:
        UsageError: there is no such hub.
    """
    found = []
    for name in [hub] if hub else hubs.registry.names():
        for backbone in hubs.registry.get(name)().search(query):
            found.append({"reference": f"{backbone.hub}:{backbone.name}", **vars(backbone)})
    return found


def pull(reference: str, progress: Progress | None = None) -> dict[str, Any]:
    """Fetch a pretrained model, so that it can be used without a network, and return what it is."""
    backbone = open_network(reference, "", progress or Quiet()).network.backbone
    return {"reference": f"{backbone.hub}:{backbone.name}", **vars(backbone)}
