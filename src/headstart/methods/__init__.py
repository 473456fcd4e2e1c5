"""Ways to adapt a model, one file each."""

from headstart.core.method import Method
from headstart.core.registry import Registry

registry = Registry(__name__, Method)
