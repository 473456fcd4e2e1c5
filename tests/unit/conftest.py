"""What holds for unit tests: numbers are compared in float32, whatever the processor computes in fastest."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def exact_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let OpenVINO compute in float32 where a test compares it with PyTorch; such tests are slow ones."""
    if request.node.get_closest_marker("slow"):
        from headstart.formats.openvino import OpenVINO

        monkeypatch.setattr(OpenVINO, "precisions", lambda self: ["f32"])
