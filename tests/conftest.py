"""What holds for every test: no network, an own home and cache, no settings of the user's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
OWN = ("HEADSTART_", "XDG_", "HF_", "KAGGLE", "NGC_", "TORCH_HOME", "KERAS_HOME", "TRANSFORMERS_")
"""How the names of a user's settings begin."""
REAL_CONNECT = socket.socket.connect


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give this session and its subprocesses a home and a cache of their own, and no way to fetch anything."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(OWN):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("HEADSTART_CACHE", str(home / "cache"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        patch.setenv("COLUMNS", "100")
        yield


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Let sockets reach this machine only."""

    def connect(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("localhost", "::1") and not str(host).startswith("127."):
            raise AssertionError(f"A test tried to reach {address}.")
        REAL_CONNECT(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the repository."""
    return REPOSITORY
