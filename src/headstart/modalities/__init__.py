"""Kinds of input, one file each."""

from headstart.core.modality import Modality
from headstart.core.registry import Registry

registry = Registry(__name__, Modality)


def name_of(modality: Modality) -> str:
    """Return a modality's name in the registry, which is its file's name."""
    return type(modality).__module__.rpartition(".")[2]
