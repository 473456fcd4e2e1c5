"""What pretrained networks do as they are, one file each."""

from headstart.core.pipeline import Pipeline
from headstart.core.registry import Registry

registry = Registry(__name__, Pipeline)
