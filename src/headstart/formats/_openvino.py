"""OpenVINO, imported in silence.

On import, openvino sends an event to an analytics service where the package openvino_telemetry can be imported. It does
without where it cannot, so the package is hidden for as long as the import takes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_HIDDEN = "openvino_telemetry"


@contextmanager
def silently() -> Iterator[None]:
    """Hide the package that sends events, for as long as something is imported that would use it."""
    before = {name: sys.modules.get(name) for name in [_HIDDEN] if name in sys.modules}
    sys.modules[_HIDDEN] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_HIDDEN]
        sys.modules.update({name: module for name, module in before.items() if module is not None})


with silently():
    import openvino as ov
    from openvino import opset13 as op

__all__ = ["op", "ov", "silently"]
