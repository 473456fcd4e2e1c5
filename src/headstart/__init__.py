"""headstart adapts a pretrained model to a small table, proves that the result is worth using, and serves it.

>>> import headstart as hs
>>> model = hs.fit("tickets.csv", target=["department", "priority"])  # doctest: +SKIP
>>> model.predict("My order has not arrived")  # doctest: +SKIP
{'department': 'Shipping & Delivery', 'department_confidence': 0.97, ...}
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from headstart import core as _core
from headstart.core.errors import HeadstartError as HeadstartError

if TYPE_CHECKING:
    from headstart.stages.benchmark import benchmark as benchmark
    from headstart.stages.chat import Chat as Chat
    from headstart.stages.chat import chat as chat
    from headstart.stages.choose import choose as choose
    from headstart.stages.compress import compress as compress
    from headstart.stages.edit import Edited as Edited
    from headstart.stages.edit import edit as edit
    from headstart.stages.evaluate import evaluate as evaluate
    from headstart.stages.fit import fit as fit
    from headstart.stages.model import Model as Model
    from headstart.stages.model import open_model as open_model
    from headstart.stages.models import models as models
    from headstart.stages.predict import predict as predict
    from headstart.stages.pretrained import Pretrained as Pretrained
    from headstart.stages.pretrained import pretrained as pretrained
    from headstart.stages.push import push as push
    from headstart.stages.serve import serve as serve
    from headstart.stages.show import show as show

__version__ = _core.VERSION

_HOMES = {
    "Chat": "headstart.stages.chat",
    "Edited": "headstart.stages.edit",
    "Model": "headstart.stages.model",
    "Pretrained": "headstart.stages.pretrained",
    "benchmark": "headstart.stages.benchmark",
    "chat": "headstart.stages.chat",
    "choose": "headstart.stages.choose",
    "compress": "headstart.stages.compress",
    "edit": "headstart.stages.edit",
    "evaluate": "headstart.stages.evaluate",
    "fit": "headstart.stages.fit",
    "models": "headstart.stages.models",
    "open_model": "headstart.stages.model",
    "predict": "headstart.stages.predict",
    "pretrained": "headstart.stages.pretrained",
    "push": "headstart.stages.push",
    "serve": "headstart.stages.serve",
    "show": "headstart.stages.show",
}

__all__ = [
    "Chat",
    "Edited",
    "HeadstartError",
    "Model",
    "Pretrained",
    "__version__",
    "benchmark",
    "chat",
    "choose",
    "compress",
    "edit",
    "evaluate",
    "fit",
    "models",
    "open_model",
    "predict",
    "pretrained",
    "push",
    "serve",
    "show",
]


def __getattr__(name: str) -> Any:
    # Importing a verb's module only when it is asked for keeps `import headstart` free of everything heavy.
    if name not in _HOMES:
        raise AttributeError(f"module 'headstart' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
