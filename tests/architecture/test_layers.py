"""Imports point down only: the contracts of `[tool.importlinter]` in pyproject.toml hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_import_contracts(repository):
    command = Path(sys.executable).with_name("lint-imports")
    options = ["--config", os.fspath(repository / "pyproject.toml"), "--no-cache"]
    done = subprocess.run([command, *options], cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
