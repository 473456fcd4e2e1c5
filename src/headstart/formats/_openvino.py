"""OpenVINO, imported in silence.

On import, openvino sends an event to an analytics service where the package openvino_telemetry can be imported. It does
without where it cannot, so the package is hidden for as long as the import takes.
"""

from __future__ import annotations

import sys

_HIDDEN = "openvino_telemetry"
_before = {name: sys.modules.get(name) for name in [_HIDDEN] if name in sys.modules}
sys.modules[_HIDDEN] = None  # type: ignore[assignment]
try:
    import openvino as ov
    from openvino import opset13 as op
finally:
    del sys.modules[_HIDDEN]
    sys.modules.update({name: module for name, module in _before.items() if module is not None})

__all__ = ["op", "ov"]
