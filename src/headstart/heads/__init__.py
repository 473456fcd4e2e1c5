"""Fitted parts between a network's outputs and a task's scores, one file each; numpy only."""

from headstart.core.head import Head
from headstart.core.registry import Registry

registry = Registry(__name__, Head)
