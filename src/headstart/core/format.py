"""The Format contract: an engine that runs a network on this machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from headstart.core.arrays import Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError


class Unfit(HubError):
    """This engine cannot run the network after all, as it found out while opening it; another one may."""


class Format(ABC):
    """One engine (one file in `formats/`)."""

    tolerance: float
    """Largest accepted 1 - cosine between its outputs and the reference in float32."""

    rank: int = 1
    """Engines of a lower rank are asked first whether they can open a network; among equals, by name."""

    @abstractmethod
    def precisions(self) -> list[str]:
        """Return the precisions that this machine runs well, fastest first."""

    @abstractmethod
    def supports(self, network: Network) -> str:
        """Return an empty string, or the reason why this engine cannot open the network."""

    @abstractmethod
    def open(self, network: Network, precision: str, threads: int) -> Session:
        """Open the network for running.

        Raises:
            HubError: it cannot be opened.
            Unfit: the same, and the next engine is to be asked; its `problem` is a reason as `supports` gives it.
        """

    def worked_out(self, network: Network) -> Mapping[str, Path]:
        """Return the folders of what it made of the network when it was opened, for a bundle to carry.

        Each is put into the network's folder under the name that it is given here, where `open` looks for it first.
        """
        return {}
