"""What can be predicted, one file each."""

from headstart.core.registry import Registry
from headstart.core.task import Task

registry = Registry(__name__, Task)
