"""Places that tables come from and go to, one file each."""

from headstart.core.registry import Registry
from headstart.core.source import Source

registry = Registry(__name__, Source)
