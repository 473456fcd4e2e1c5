"""Engines that run networks, one file each."""

from headstart.core.format import Format
from headstart.core.registry import Registry

registry = Registry(__name__, Format)
