"""Wire protocols of the server, one file each."""

from headstart.core.protocol import Protocol
from headstart.core.registry import Registry

registry = Registry(__name__, Protocol)
