"""Kinds of input, one file each."""

from headstart.core.modality import Modality
from headstart.core.registry import Registry

registry = Registry(__name__, Modality)
