"""Places that pretrained models come from, one file each."""

from headstart.core.backbone import Hub
from headstart.core.registry import Registry

registry = Registry(__name__, Hub)
