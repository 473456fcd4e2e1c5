"""Ways to adapt a model, one file each."""

from headstart.core.method import HeadMethod, Method, NetworkMethod
from headstart.core.registry import Registry
from headstart.methods._learn import merit

__all__ = ["head_methods", "merit", "network_methods", "registry"]

registry = Registry(__name__, Method)


def head_methods() -> dict[str, type[HeadMethod]]:
    """Return the methods that leave a network's weights as they are, by name."""
    return {name: each for name, each in registry.all().items() if issubclass(each, HeadMethod)}


def network_methods() -> dict[str, type[NetworkMethod]]:
    """Return the methods that change a network's weights, by name."""
    return {name: each for name, each in registry.all().items() if issubclass(each, NetworkMethod)}
