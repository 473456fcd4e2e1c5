"""Model folders on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import final

from headstart.core.backbone import Backbone, Hub, Network
from headstart.core.errors import HubError
from headstart.core.progress import Progress
from headstart.hubs._folder import open_folder


@final
class Local(Hub):
    """`local:PATH`: a folder that transformers or sentence-transformers saved."""

    def search(self, query: str) -> list[Backbone]:
        """Return nothing: folders are named, not searched."""
        return []

    def fetch(self, backbone: Backbone, progress: Progress) -> Network:
        """Return the network in the folder.

        Raises:
            HubError: there is no such folder, its files cannot be read, or its weights are not the pinned ones.
        """
        folder = Path(backbone.name).expanduser()
        if not folder.is_dir():
            raise HubError(f"There is no folder '{folder}'.", hint="Give the folder that holds config.json.")
        network = open_folder(folder.resolve(), backbone)
        if backbone.checksum and network.backbone.checksum != backbone.checksum:
            raise HubError(
                f"The weights in '{folder}' are not those that the bundle was fitted with: their SHA-256 differs.",
                hint="Put the earlier files back, or fit again.",
            )
        return network
