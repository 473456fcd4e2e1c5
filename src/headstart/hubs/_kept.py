"""Versions of models kept side by side, each a folder with a `<version>.complete` file beside it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from headstart.core.backbone import Backbone, Held, Network
from headstart.core.errors import HubError


def verified(network: Network, checksum: str, pinned: Backbone) -> Network:
    """Return a network whose weights hash to what was pinned, or are not pinned.

    Raises:
        HubError: they do not.
    """
    if checksum and network.backbone.checksum != checksum:
        raise HubError(
            f"The files of '{pinned.reference}' are not the pinned ones: their SHA-256 differs.",
            hint=f"If they are damaged: headstart models rm {pinned.reference}, then run again.",
        )
    return network


def remove(held: Sequence[Held], name: str, version: str, reference: str) -> int:
    """Remove one version of a model, or all of them where none is named, and return the bytes freed.

    Raises:
        HubError: it is not among those held.
    """
    gone = [each for each in held if each.backbone.name == name and (not version or each.backbone.revision == version)]
    if not gone:
        raise HubError(f"'{reference}' is not on this machine.", hint="See what is: headstart models du")
    for each in gone:
        each.place.with_name(f"{each.place.name}.complete").unlink()
        shutil.rmtree(each.place)
    return sum(each.size for each in gone)
