"""The Format contract: an engine that runs a network on this machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from headstart.core.arrays import Adaptable, Arrays, Session
from headstart.core.backbone import Network
from headstart.core.errors import HubError, UsageError, listed


class Unfit(HubError):
    """This engine cannot run the network after all, as it found out while opening it; another one may."""


class Format(ABC):
    """One engine (one file in `formats/`)."""

    tolerance: float
    """Largest accepted 1 - cosine between its outputs and the reference in float32."""

    rank: int = 1
    """Engines of a lower rank are asked first whether they can open a network; among equals, by name."""

    forms: Sequence[str] = ()
    """Compressed forms of networks that it makes: `int8` (eight-bit numbers), `f16` (weights of half width)."""

    heavy: str = ""
    """A package that takes seconds to import; such an engine is measured only where the package is in use already."""

    @abstractmethod
    def precisions(self) -> list[str]:
        """Return the precisions that this machine runs well, fastest first."""

    def offered(self, network: Network) -> Sequence[str]:
        """Return the precisions at which it runs a network that it supports, the one to take unasked first."""
        return self.precisions()

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

    def open_adaptable(self, network: Network, precision: str, threads: int) -> Adaptable | None:
        """Open a network for several low-rank adapters, which share its weights and passes; None where it cannot."""
        return None

    def ahead(self, network: Network) -> str:
        """Return what has to be done once before a network can be opened, where that takes seconds; else nothing."""
        return ""

    def worked_out(self, network: Network) -> Mapping[str, Path]:
        """Return the folders of what it made of the network when it was opened, for a bundle to carry.

        Each is put into the network's folder under the name that it is given here, where `open` looks for it first.
        """
        return {}

    def operations(self, network: Network, encoded: Arrays) -> float:
        """Return the floating-point operations that encoded rows take, padding included; 0 where that is not known."""
        return 0.0

    def peak(self, precision: str, threads: int) -> float:
        """Return the operations a second of a large matrix product on this machine; 0 where that is not measured."""
        return 0.0

    def compress(self, network: Network, form: str, given: Sequence[Arrays], folder: Path) -> Network:
        """Write a compressed form of a network into a folder of its own, and return the network as it is there.

        Args:
            network: one that it supports.
            form: one of `forms`.
            given: encoded rows of the user's own, in batches, by which the ranges of numbers are chosen.
            folder: what is written, in one step; nothing else is needed to open the form.

        Raises:
            UsageError: it makes no such form, or not of this network.
            MissingExtra: a package that makes it is not installed.
        """
        raise UsageError(
            f"There is no form '{form}' of '{network.backbone.reference}'.",
            allowed=f"Forms: {listed(self.forms)}." if self.forms else "This engine makes none.",
        )

    def prunable(self, network: Network) -> str:
        """Return an empty string, or the reason why this engine cannot leave channels out of a network."""
        return "this engine leaves nothing out of networks"

    def prune(
        self, network: Network, share: float, given: Sequence[Arrays], folder: Path, heads: float = 0.0
    ) -> Network:
        """Write a network whose layers have fewer channels or heads into a folder of its own, and return it.

        The layout is the one of the network, so that engines that open it open the smaller one; a network without some
        of its heads only some of them do.

        Args:
            network: one that is `prunable`.
            share: of the feed-forward channels that are left out, below 1; 0 leaves all.
            given: encoded rows of the user's own, in batches, by which they are chosen.
            folder: what is written, in one step.
            heads: share of the attention heads that are left out, below 1; 0 leaves all.

        Raises:
            UsageError: it cannot do that with this network, or not by so much.
        """
        raise UsageError(
            f"Nothing can be left out of '{network.backbone.reference}': {self.prunable(network)}.",
            allowed="Text encoders of the BERT family in one safetensors file, and networks of convolutions.",
        )
