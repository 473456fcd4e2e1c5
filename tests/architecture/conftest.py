"""What the architecture tests read: the source as syntax trees, and fresh interpreters."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def trees(repository: Path) -> dict[str, ast.Module]:
    """Return each source file's syntax tree by its path below `src/headstart`."""
    root = repository / "src" / "headstart"
    return {
        str(path.relative_to(root)): ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in sorted(root.rglob("*.py"))
    }


@pytest.fixture(scope="session")
def python() -> Run:
    """Return a function that runs `python ARGUMENTS` in a fresh interpreter and gives back what it printed."""

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            **options,  # type: ignore[call-overload]
        )

    return run
