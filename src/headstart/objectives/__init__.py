"""What networks' own outputs are trained for, one file each, named as the pipeline that answers."""

from headstart.core.objective import Objective
from headstart.core.registry import Registry

registry = Registry(__name__, Objective)
